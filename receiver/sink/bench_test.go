package sink

import (
	"fmt"
	"io"
	"net"
	"testing"
)

// BenchmarkReceive measures one durable stream from a loopback TCP sender, Finish included; the
// sender shares the machine's cores.
func BenchmarkReceive(b *testing.B) {
	const size = 512 << 20
	for _, compress := range []string{None, Gzip, Zstd} {
		for _, algo := range []string{BLAKE3, SHA256} {
			b.Run(fmt.Sprintf("%s/%s", compress, algo), func(b *testing.B) {
				b.SetBytes(size)
				for b.Loop() {
					benchReceive(b, Spec{Dir: b.TempDir(), Name: "bench", Tag: "t", Hash: algo, Compress: compress}, size)
				}
			})
		}
	}
}

func benchReceive(b *testing.B, spec Spec, size int64) {
	conn := loopback(b, size)
	defer conn.Close()
	f, err := Create(spec)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Abort()
	if err := f.Receive(b.Context(), conn, nil); err != nil {
		b.Fatal(err)
	}
	res, err := f.Finish()
	if err != nil || res.Received != size {
		b.Fatalf("received %d: %v", res.Received, err)
	}
	if err := Discard(spec); err != nil {
		b.Fatal(err)
	}
}

// loopback is the receiving end of a connection over which size bytes come.
func loopback(b *testing.B, size int64) net.Conn {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	out, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	conn, err := ln.Accept()
	if err != nil {
		b.Fatal(err)
	}
	sent := make(chan error, 1) // one result, so that the sender never waits for the reader
	go func() {
		defer out.Close()
		sent <- send(out, size)
	}()
	b.Cleanup(func() {
		if err := <-sent; err != nil {
			b.Error(err)
		}
	})
	return conn
}

func send(w io.Writer, size int64) error {
	piece := sample(4 << 20)
	for left := size; left > 0; {
		n, err := w.Write(piece[:min(left, int64(len(piece)))])
		if err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}
