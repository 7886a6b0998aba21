package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Conn is a connection to the bus, in-process or over the network; both behave alike. Safe for concurrent use.
type Conn struct {
	NC     *nats.Conn
	JS     jetstream.JetStream
	log    *slog.Logger
	crowds map[string]*crowd // by stream, of those that a large fleet appends to thousands of times in a second

	streams sync.Map // jetstream.Stream by name, of those that single messages were read of
	buckets sync.Map // jetstream.KeyValue by name

	decoded decoded

	embedded *Server     // nil for a remote one
	cheap    atomic.Bool // a group costs one sync, as a single message does
}

// Remote says how to reach an external NATS server or cluster (`nats-url`).
type Remote struct {
	URL      string
	User     string
	Password string
	TLS      *tls.Config // optional
}

// ConnectInProcess connects to the embedded server. The connection follows the server through its in-place restarts.
func ConnectInProcess(s *Server, name string, log *slog.Logger) (*Conn, error) {
	c, err := dial("", log, nats.Name(name), nats.InProcessServer(s), nats.UserInfo(s.cfg.User, s.cfg.Password))
	if err == nil {
		c.embedded = s
	}
	return c, err
}

// A server that has not answered so many pings is given up for the next one: after as long as an election takes.
const (
	pingEvery = 3 * time.Second
	pingsLost = 2
)

// flushTime is how long a write to a server that takes nothing may hold the connection, its pings included.
const flushTime = 5 * time.Second

// ConnectRemote connects to an external server and goes on trying for ever when it is away.
func ConnectRemote(r Remote, name string, log *slog.Logger) (*Conn, error) {
	// A server that stands still keeps its connections open; the library would believe in it for four minutes.
	opts := []nats.Option{nats.Name(name), nats.UserInfo(r.User, r.Password), nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(pingsLost)}
	if r.TLS != nil {
		opts = append(opts, nats.Secure(r.TLS))
	}
	return dial(r.URL, log, opts...)
}

func dial(url string, log *slog.Logger, opts ...nats.Option) (*Conn, error) {
	opts = append(opts,
		nats.MaxReconnects(-1), nats.ReconnectWait(250*time.Millisecond), nats.ReconnectJitter(100*time.Millisecond, time.Second),
		nats.FlusherTimeout(flushTime),
		nats.ReconnectBufSize(-1),   // a write while disconnected is an error at once, not a hope
		nats.IgnoreAuthErrorAbort(), // a server that came back before its users did must not end the connection for good
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("bus connection lost", "err", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { log.Info("bus connection is back") }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Warn("bus", "err", err) }),
	)
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(5*time.Second))
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("open jetstream: %w", err)
	}
	c := &Conn{NC: nc, JS: prompt{js}, log: log}
	c.crowds = map[string]*crowd{StreamJobs: {c: c, stream: StreamJobs}, StreamTasks: {c: c, stream: StreamTasks}}
	return c, nil
}

// Close flushes what was published and disconnects.
func (c *Conn) Close() error {
	err := c.NC.FlushTimeout(2 * time.Second)
	c.NC.Close()
	if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrConnectionReconnecting) {
		return nil
	}
	return err
}

// Error codes of JetStream.
const noPeers, storageExceeded, noCluster = 10005, 10047, 10074

// Permanent reports whether an error of [ConnectRemote] or [Conn.Declare] stays until somebody changes something: the
// login, the server's version, its space, or how many copies are asked for. All others pass when the servers are back.
func Permanent(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		if api.ErrorCode == noPeers {
			return false // servers that have just started have not heard of each other
		}
		return api.Code == http.StatusBadRequest || api.ErrorCode == storageExceeded || api.ErrorCode == noCluster
	}
	return errors.Is(err, ErrOldServer) || errors.Is(err, nats.ErrAuthorization)
}

// Electing reports whether a request failed because servers of a cluster have no leader at the moment. They elect one within some
// ten seconds, if most of them are up.
func Electing(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == noLeader
}

// noLeader is NATS's number for "JetStream system temporarily unavailable".
const noLeader = 10008

// Ready is nil when the bus answers JetStream requests.
func (c *Conn) Ready(ctx context.Context) error {
	if !c.NC.IsConnected() {
		return errors.New("not connected to the bus")
	}
	if _, err := c.JS.AccountInfo(ctx); err != nil {
		return fmt.Errorf("ask the bus: %w", err)
	}
	return nil
}
