package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"drydock/bench/paired"
	"drydock/receiver/sink"
	"drydock/xbstream"
)

// asSink is the first argument that makes this program the receiving side.
const asSink = "as-sink"

// serveSink takes streams on one port, each as a reservation of the receiver does, up to its published file. Then it says
// how much memory it had, in bytes.
func serveSink(args []string) error {
	f := flag.NewFlagSet(asSink, flag.ExitOnError)
	dir := f.String("dir", "", "folder of the files")
	port := f.Int("port", 0, "port to listen on")
	count := f.Int("streams", 1, "how many streams to take")
	hash := f.String("hash", sink.SHA256, "hash")
	compress := f.String("compress", sink.None, "compression")
	check := f.Bool("check", false, "check the format")
	cut := f.Bool("cut", false, "the streams are cut: their format cannot be good")
	_ = f.Parse(args) // exits by itself
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", loopback, *port))
	if err != nil {
		return err
	}
	defer l.Close()
	errs := make([]error, *count)
	var wg sync.WaitGroup
	for i := range errs {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		spec := sink.Spec{Dir: *dir, Name: fmt.Sprint("stream-", i), Tag: "bench", Hash: *hash, Compress: *compress}
		wg.Go(func() { errs[i] = take(conn.(*net.TCPConn), spec, *check, *cut) })
	}
	wg.Wait()
	peak, err := paired.Peak()
	fmt.Println(peak)
	return errors.Join(append(errs, err)...)
}

func take(conn *net.TCPConn, spec sink.Spec, check, cut bool) error {
	defer conn.Close()
	f, err := sink.Create(spec)
	if err != nil {
		return err
	}
	defer func() { _ = f.Abort() }()
	var from io.Reader = patient{conn}
	checker := xbstream.New()
	if check {
		from = io.TeeReader(from, checker)
	}
	if err := f.Receive(context.Background(), from, func(int64) {}); err != nil {
		return err
	}
	if _, err := f.Finish(); err != nil {
		return err
	}
	if err := checker.Close(); check && !cut && err != nil {
		return err
	}
	_, err = sink.Publish(spec)
	return err
}

// patient gives every read a deadline, as the receiver does.
type patient struct{ *net.TCPConn }

func (p patient) Read(b []byte) (int, error) {
	if err := p.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return 0, err
	}
	return p.TCPConn.Read(b)
}
