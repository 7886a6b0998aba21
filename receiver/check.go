package receiver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"drydock/bus"
)

// checkMax bounds what a script check reads: a script of 4 MiB is none.
const checkMax = 4 << 20

// check is the outcome of a Check reservation (wire.md section 3, receive-jobs-check), for whoever asks for it.
type check struct {
	once  sync.Once
	ended chan struct{} // closed by finish
	reply bus.CheckReply
	err   error
}

func newCheck() *check { return &check{ended: make(chan struct{})} }

// finish sets the outcome; the first one counts.
func (c *check) finish(reply bus.CheckReply, err error) {
	c.once.Do(func() {
		c.reply, c.err = reply, err
		close(c.ended)
	})
}

// wait is the outcome, when it comes before ctx ends.
func (c *check) wait(ctx context.Context) (bus.CheckReply, error) {
	select {
	case <-c.ended:
		return c.reply, c.err
	case <-ctx.Done():
		return bus.CheckReply{}, context.Cause(ctx)
	}
}

// take hashes what comes through conn, then keeps the outcome until the reservation's time is over: the question may
// come after the stream.
func (c *check) take(r *reservation, conn *net.TCPConn) {
	reply, err := c.hash(r, conn)
	r.freePort()
	if err != nil {
		r.log.Warn("script check", "err", err)
	}
	c.finish(reply, err)
	select {
	case <-r.ctx.Done():
	case <-r.p.closed:
	}
}

func (c *check) hash(r *reservation, conn *net.TCPConn) (bus.CheckReply, error) {
	defer conn.Close()
	defer context.AfterFunc(r.ctx, func() { reset(conn) })()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(&idleReader{conn, r.p.cfg.IdleTimeout}, checkMax+1))
	switch {
	case err != nil:
		reset(conn)
		return bus.CheckReply{}, fmt.Errorf("read script: %w", err)
	case n > checkMax:
		reset(conn)
		return bus.CheckReply{}, errors.New("read script: longer than 4 MiB")
	}
	return bus.CheckReply{SHA256: hex.EncodeToString(h.Sum(nil)), Bytes: n}, nil
}
