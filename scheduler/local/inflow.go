package local

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"lukechampine.com/blake3"

	"drydock/bus"
	"drydock/store"
)

const (
	acceptTimeout   = time.Minute
	preambleTimeout = 5 * time.Second
)

// inflow is a backup on its way here from the receiver that holds it. Its end is [io.EOF] only when every byte came and
// the hash is that of the manifest.
type inflow struct {
	conn    net.Conn
	release func() bool // lets go of the context
	idle    time.Duration
	sum     hash.Hash
	want    store.Manifest
	came    int64
}

// receive asks for a backup and returns when its stream begins.
func (w *work) receive(ctx context.Context, m store.Manifest) (*inflow, error) {
	sum, err := hashOf(m.Algo)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, acceptTimeout)
	defer cancel()
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(w.bind, "0"))
	if err != nil {
		return nil, fmt.Errorf("listen for the backup: %w", err)
	}
	defer func() { _ = l.Close() }()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	nonce := rand.Text()
	port := l.Addr().(*net.TCPAddr).Port
	_, err = bus.Request[bus.SendReply](ctx, w.conn, bus.ReceiverSubject(m.Receiver, bus.VerbSend), bus.SendRequest{
		Key: w.job.Key(), JobID: w.job.ID, Attempt: w.job.Attempt, From: m.Server, Backup: m.ID,
		Address: net.JoinHostPort(w.address, strconv.Itoa(port)), Nonce: nonce,
	})
	if err != nil {
		return nil, fmt.Errorf("ask receiver %s for backup %s: %w", m.Receiver, m.ID, err)
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return nil, fmt.Errorf("receiver %s did not connect to %s within %s", m.Receiver, net.JoinHostPort(w.address, strconv.Itoa(port)), acceptTimeout)
		}
		if announced(conn, bus.SendPreamble(nonce)) {
			return &inflow{conn: conn, idle: w.cluster.Lease, sum: sum, want: m}, nil
		}
		_ = conn.Close() // a stranger
	}
}

func hashOf(algo string) (hash.Hash, error) {
	switch algo {
	case "sha256":
		return sha256.New(), nil
	case "blake3":
		return blake3.New(32, nil), nil
	}
	return nil, fmt.Errorf("unknown hash %q in the manifest of the backup", algo)
}

// announced reads the line that tells the stream that was asked for from any other, and not a byte more.
func announced(conn net.Conn, preamble string) bool {
	if conn.SetReadDeadline(time.Now().Add(preambleTimeout)) != nil {
		return false
	}
	got := make([]byte, len(preamble))
	_, err := io.ReadFull(conn, got)
	return err == nil && subtle.ConstantTimeCompare(got, []byte(preamble)) == 1
}

// until has the stream end with ctx.
func (f *inflow) until(ctx context.Context) { f.release = context.AfterFunc(ctx, f.close) }

func (f *inflow) close() { _ = f.conn.Close() } // twice does nothing

func (f *inflow) Read(b []byte) (int, error) {
	if err := f.conn.SetReadDeadline(time.Now().Add(f.idle)); err != nil {
		return 0, err
	}
	n, err := f.conn.Read(b)
	_, _ = f.sum.Write(b[:n])
	f.came += int64(n)
	switch {
	case f.came > f.want.Size:
		return n, fmt.Errorf("backup %s is longer than the %d bytes of its manifest", f.want.ID, f.want.Size)
	case errors.Is(err, io.EOF):
		defer f.close() // by this the sender knows that all was read
		return n, f.proof()
	case err != nil:
		return n, fmt.Errorf("the stream of backup %s broke after %d of %d bytes: %w", f.want.ID, f.came, f.want.Size, err)
	}
	return n, nil
}

// proof is io.EOF for a stream that was what its manifest says.
func (f *inflow) proof() error {
	got := hex.EncodeToString(f.sum.Sum(nil))
	switch {
	case f.came != f.want.Size:
		return fmt.Errorf("backup %s ended after %d of %d bytes", f.want.ID, f.came, f.want.Size)
	case !strings.EqualFold(got, f.want.Hash):
		return fmt.Errorf("backup %s is damaged: its %s is %s, not %s", f.want.ID, f.want.Algo, got, f.want.Hash)
	}
	return io.EOF
}
