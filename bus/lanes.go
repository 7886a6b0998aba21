package bus

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// laneRoom is how many messages wait in a lane; what is more comes again later.
	laneRoom = 64
	// laneWait is how long a message may wait in a lane: after workAckWait it comes again, here or elsewhere.
	laneWait = workAckWait / 2
)

// WorkInLanes is [Work] for what may take long: messages of the same lane are handled one after the other, and wait for no
// other lane, as long as fewer than a thousand wait in all: more the consumer does not hand out. lane is asked before, and must not wait; where it says "" there is nothing to do. A lane that is full, or slow,
// gets its messages later, and not always in their order.
func WorkInLanes[T any](ctx context.Context, c *Conn, stream, durable, filter string, lane func(T) string, handle func(context.Context, Meta, T) error) error {
	l := lanes[T]{c: c, handle: handle, queues: map[string]chan errand[T]{}}
	defer l.ended.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return repeatWork(ctx, c, stream, durable, func() error {
		return eachWork(ctx, c, stream, durable, filter, func(m jetstream.Msg) {
			meta, v, ok := decodeWork[T](c, m)
			switch {
			case !ok:
			case lane(v) == "":
				settle(ctx, c, m, meta, nil)
			default:
				l.put(ctx, lane(v), errand[T]{m, meta, v, time.Now()})
			}
		})
	})
}

// errand is a message that waits in a lane.
type errand[T any] struct {
	m     jetstream.Msg
	meta  Meta
	v     T
	since time.Time
}

// lanes has a goroutine for each lane that had a message; put is called by one goroutine only.
type lanes[T any] struct {
	c      *Conn
	handle func(context.Context, Meta, T) error
	queues map[string]chan errand[T] // put sends; never closed: a lane ends with its context
	ended  sync.WaitGroup
}

func (l *lanes[T]) put(ctx context.Context, lane string, e errand[T]) {
	queue := l.queues[lane]
	if queue == nil {
		queue = make(chan errand[T], laneRoom)
		l.queues[lane] = queue
		l.ended.Go(func() { l.run(ctx, queue) })
	}
	select {
	case queue <- e:
	default:
		logAck(l.c, e.m.NakWithDelay(time.Second))
	}
}

func (l *lanes[T]) run(ctx context.Context, queue <-chan errand[T]) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-queue:
			if time.Since(e.since) > laneWait {
				logAck(l.c, e.m.Nak()) // it may be somebody else's soon
				continue
			}
			settle(ctx, l.c, e.m, e.meta, l.handle(ctx, e.meta, e.v))
		}
	}
}
