package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
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

// Entry is a key of a bucket with its value.
type Entry struct {
	Key      string
	Value    []byte
	Revision uint64
	Gone     bool // deleted; without a value
}

// FollowBucket gives every value that a bucket has under keys, which may have wildcards, and then each change to handle, like [Follow].
func (c *Conn) FollowBucket(ctx context.Context, bucket, keys string, handle func(Entry) error, caughtUp func()) error {
	const operation = "KV-Operation" // says what a message is that is no value
	stream, all := BucketStream(bucket)
	prefix := strings.TrimSuffix(all, ">")
	f := follower{c: c, stream: stream, filter: prefix + keys, from: From{LastPerSubject: true}, caughtUp: caughtUp}
	f.handle = func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
		return handle(Entry{
			Key: strings.TrimPrefix(m.Subject(), prefix), Value: m.Data(), Revision: meta.Sequence.Stream, Gone: m.Headers().Get(operation) != "",
		})
	}
	return f.run(ctx)
}

// Entries gives every value that a bucket has now under keys, which may have wildcards, to handle. It returns when that was all of
// them; an error, that of handle for one, says that it was not.
func (c *Conn) Entries(ctx context.Context, bucket, keys string, handle func(Entry) error) error {
	reading, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	still := time.AfterFunc(bucketStill, func() { cancel(errStill) })
	defer still.Stop()
	err := c.FollowBucket(reading, bucket, keys, func(e Entry) error {
		still.Reset(bucketStill)
		if e.Gone {
			return nil
		}
		return handle(e)
	}, func() { cancel(errWhole) })
	if err != nil {
		return err
	}
	if why := context.Cause(reading); !errors.Is(why, errWhole) {
		return fmt.Errorf("read %s: %w", bucket, why)
	}
	return nil
}

// bucketStill is how long the values of a bucket may keep somebody waiting.
const bucketStill = 30 * time.Second

var (
	errStill = fmt.Errorf("no answer of the bus within %s", bucketStill)
	errWhole = errors.New("all is read")
)
