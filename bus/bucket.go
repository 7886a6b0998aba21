package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Overtaken reports whether a key of a bucket was not written because somebody else was quicker: it is there already, or not as the writer
// saw it. Servers that keep copies have a number of their own for that, which the library gives as it is when a key that was deleted is made anew.
func Overtaken(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) ||
		errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant
}

// Entries gives every value that a bucket has now under keys, which may have wildcards, to handle. It returns when that was all of
// them; an error, that of handle for one, says that it was not.
func (c *Conn) Entries(ctx context.Context, bucket, keys string, handle func(jetstream.KeyValueEntry) error) error {
	kv, err := c.Bucket(ctx, bucket)
	if err != nil {
		return err
	}
	// The library has no bound for the server's answers but the context.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	still := time.AfterFunc(bucketStill, func() { cancel(errStill) })
	defer still.Stop()
	w, err := kv.Watch(ctx, keys, jetstream.IgnoreDeletes())
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", bucket, err)
	}
	defer stopWatching(w)
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("read %s: %w", bucket, context.Cause(ctx))
		case e, ok := <-w.Updates():
			if !ok {
				return fmt.Errorf("read %s: %w", bucket, errCut)
			}
			if e == nil {
				return nil
			}
			still.Reset(bucketStill)
			if err := handle(e); err != nil {
				return err
			}
		}
	}
}

// bucketStill is how long the values of a bucket may keep somebody waiting.
const bucketStill = 30 * time.Second

var (
	errStill = fmt.Errorf("no answer of the bus within %s", bucketStill)
	errCut   = errors.New("the bus closed before the end")
)

// stopWatching ends a watcher. When not all of its values were taken, its goroutine waits with one in hand, and would for ever.
func stopWatching(w jetstream.KeyWatcher) {
	_ = w.Stop() // it may have ended by itself
	const patience = time.Second
	late := time.NewTimer(patience) // the library does not close the channel of one that ended as it began
	defer late.Stop()
	for {
		select {
		case _, ok := <-w.Updates():
			if !ok {
				return
			}
		case <-late.C:
			return
		}
	}
}
