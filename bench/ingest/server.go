package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/gin-gonic/gin"

	"drydock/bus"
	"drydock/gateway"
	"drydock/gateway/envelope"
	"drydock/gateway/joblog"
	"drydock/job"
	"drydock/store"
)

const (
	asGateway  = "as-gateway"
	asBaseline = "as-baseline"
)

// untilStopped ends with the signal that [server.stop] sends.
func untilStopped() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGTERM)
}

// serveGateway is drydock's gateway on an embedded bus. It says its address, and at its end how many batches it kept.
func serveGateway(dir string) (err error) {
	ctx, cancel := untilStopped()
	defer cancel()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	s, err := bus.StartServer(bus.ServerConfig{Dir: filepath.Join(dir, "bus"), User: "bench", Password: "bench", MaxStore: 16 << 30, Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	conn, err := bus.ConnectInProcess(s, "bench", log)
	if err != nil {
		return err
	}
	defer conn.NC.Close()
	if err := conn.Declare(ctx, bus.DefaultLimits()); err != nil {
		return err
	}
	view := store.NewView(conn)
	var viewing sync.WaitGroup
	viewing.Go(func() { _ = view.Run(ctx) }) // ends with its context only
	defer viewing.Wait()
	const name = "gateway@bench"
	g, err := gateway.New(gateway.Config{
		Name: name, Bind: "127.0.0.1", Address: "127.0.0.1", TLSDir: dir, Log: log,
		Clusters: []gateway.Cluster{{Name: clusterName, Servers: []job.Server{{Host: dbHost, Port: dbPort}}, Password: dbPassword, Mode: job.SQL}},
	}, gateway.Deps{
		Conn: conn, View: view, Jobs: store.NewJobs(conn, name, view), Ledger: store.NewLedger(conn, name),
		Catalog: store.NewCatalog(conn), Docs: store.NewDocs(conn),
	})
	if err != nil {
		return err
	}
	<-view.Ready()
	fmt.Println(g.HTTPAddr())
	err = g.Run(ctx)
	stream, infoErr := conn.JS.Stream(context.WithoutCancel(ctx), bus.StreamLogs)
	if err = errors.Join(err, infoErr); err == nil {
		fmt.Println(stream.CachedInfo().State.LastSeq)
	}
	return err
}

// serveBaseline does what the gateway's handler does with a batch from an older client, up to the lines, and forgets them.
func serveBaseline(string) error {
	ctx, cancel := untilStopped()
	defer cancel()
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	cipher, server := envelope.New(dbPassword), fmt.Sprintf("%s:%d", dbHost, dbPort)
	r.POST("/api/clusters/:cluster/servers/:host/:port/write-log/:task", func(c *gin.Context) {
		body, err := io.ReadAll(io.LimitReader(c.Request.Body, 1<<20))
		if err != nil {
			c.String(http.StatusBadRequest, "false")
			return
		}
		plain, err := cipher.Open(body)
		if err != nil {
			c.String(http.StatusUnauthorized, "false")
			return
		}
		id, err := cipher.Identify(plain, server, dbPassword)
		if err != nil || len(joblog.Parse(c.Param("task"), id.Level, id.Log).Lines) != 5 {
			c.String(http.StatusUnauthorized, "false")
			return
		}
		if c.Request.UserAgent() == "" {
			c.Header("Connection", "close")
		}
		c.Header("Content-Length", "4")
		c.String(http.StatusOK, "true")
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	h := &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { h.Close() })()
	fmt.Println(l.Addr())
	if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
