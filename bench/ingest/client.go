package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"drydock/gateway/envelope"
)

// What all sides know and the clients say.
const (
	clusterName = "bench"
	dbHost      = "127.0.0.1"
	dbPort      = 3306
	dbPassword  = "bench"
)

// caller sends batches to a server until ctx ends and says how many were answered with 200.
type caller func(ctx context.Context, addr string, client int) (int, error)

// batch is the request of a shell client: five lines of a backup's log, sealed, about 1 KiB.
func batch(client int, header string) []byte {
	var lines strings.Builder
	for i := range 5 {
		fmt.Fprintf(&lines, `[00] 2026-11-26 05:%02d:%02d Copying ./shop/orders_%d.ibd to <STDOUT>, of the tables that have to be copied: %d\n`, client%60, i, client, i)
	}
	plain := fmt.Sprintf(`{"server":"%s:%d","secret":"%s","level":"DEBUG","log":"%s"}`, dbHost, dbPort, dbPassword, strings.TrimSuffix(lines.String(), `\n`))
	body := envelope.New(dbPassword).Seal([]byte(plain))
	return fmt.Appendf(nil, "POST /api/clusters/%s/servers/%s/%d/write-log/mariabackup HTTP/1.1\r\nHost: %s\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		clusterName, dbHost, dbPort, dbHost, header, len(body), body)
}

// keepAlive is a client that makes all its calls on one connection.
func keepAlive(ctx context.Context, addr string, client int) (n int, err error) {
	request := batch(client, "User-Agent: bench\r\n")
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	for in := bufio.NewReader(conn); ctx.Err() == nil; n++ {
		if err := send(conn, request); err != nil {
			return n, err
		}
		if err := answer(in); err != nil {
			return n, err
		}
	}
	return n, nil
}

// halfClose is a client that makes a connection for each call, closes its side after the request and waits for the end.
func halfClose(ctx context.Context, addr string, client int) (n int, err error) {
	request := batch(client, "")
	for ; ctx.Err() == nil; n++ {
		if err := callOnce(addr, request); err != nil {
			return n, err
		}
	}
	return n, nil
}

func callOnce(addr string, request []byte) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := send(conn, request); err != nil {
		return err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	all, err := io.ReadAll(conn)
	if err == nil && !bytes.HasPrefix(all, []byte("HTTP/1.1 200 ")) {
		err = fmt.Errorf("answer %q", all)
	}
	return err
}

const answerTime = 10 * time.Second

func send(conn net.Conn, request []byte) error {
	if err := conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return err
	}
	_, err := conn.Write(request)
	return err
}

// answer reads one answer with the body "true".
func answer(in *bufio.Reader) error {
	status, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("answer %q", status)
	}
	for len(status) > 2 {
		if status, err = in.ReadSlice('\n'); err != nil {
			return err
		}
	}
	_, err = in.Discard(len("true"))
	return err
}
