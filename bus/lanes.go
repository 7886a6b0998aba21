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
	// laneWait is how long a message may wait without the bus being told so: after workAckWait it comes again, here or elsewhere.
	laneWait = workAckWait / 2
	// laneWord is how often the bus is told that a message is being handled.
	laneWord = workAckWait / 3
)

// Lanes says how [WorkInLanes] shares its work out.
type Lanes[T any] struct {
	// Of is asked before a message is handled, and must not wait; where it says "" there is nothing to do.
	Of func(T) string
	// Width is how many messages are handled at a time, 0 for one of each lane.
	Width int
}

// WorkInLanes is [Work] for what may take long: messages of the same lane are handled one after the other, and wait for no
// other lane, as long as fewer than a thousand wait in all: more the consumer does not hand out. A lane that is full, or slow,
// gets its messages later, and not always in their order. handle may take as long as it needs, and must end some time: until then
// nobody else gets its message, nor what waits behind it here.
func WorkInLanes[T any](ctx context.Context, c *Conn, stream, durable, filter string, by Lanes[T], handle func(context.Context, Meta, T) error) error {
	l := lanes[T]{c: c, handle: handle, waiting: map[string][]errand[T]{}}
	if by.Width > 0 {
		l.room = make(chan struct{}, by.Width)
	}
	defer l.ended.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return repeatWork(ctx, c, stream, durable, func() error {
		return eachWork(ctx, c, stream, durable, filter, func(m jetstream.Msg) {
			meta, v, ok := decodeWork[T](c, m)
			switch {
			case !ok:
			case by.Of(v) == "":
				settle(ctx, c, m, meta, nil)
			default:
				l.put(ctx, by.Of(v), errand[T]{m, meta, v, time.Now()})
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

// lanes has a goroutine for each lane with a message.
type lanes[T any] struct {
	c      *Conn
	handle func(context.Context, Meta, T) error
	room   chan struct{} // a token per message being handled; nil: no bound
	ended  sync.WaitGroup

	mu      sync.Mutex
	waiting map[string][]errand[T] // of the lanes with a goroutine
}

func (l *lanes[T]) put(ctx context.Context, lane string, e errand[T]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	queue, runs := l.waiting[lane]
	if len(queue) >= laneRoom {
		logAck(l.c, e.m.NakWithDelay(time.Second))
		return
	}
	l.waiting[lane] = append(queue, e)
	if !runs {
		l.ended.Go(func() { l.run(ctx, lane) })
	}
}

// next takes a message out of a lane; without any the lane ends.
func (l *lanes[T]) next(lane string) (e errand[T], ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	queue := l.waiting[lane]
	if len(queue) == 0 {
		delete(l.waiting, lane)
		return e, false
	}
	l.waiting[lane] = queue[1:]
	return queue[0], true
}

func (l *lanes[T]) run(ctx context.Context, lane string) {
	for {
		e, ok := l.next(lane)
		if !ok || !l.enter(ctx) {
			return
		}
		if waited := time.Since(e.since); waited > laneWait {
			logAck(l.c, e.m.Nak()) // it may be somebody else's soon
		} else {
			if waited > time.Second {
				logAck(l.c, e.m.InProgress()) // its time begins now
			}
			settle(ctx, l.c, e.m, e.meta, l.kept(ctx, lane, e))
		}
		l.leave()
	}
}

// keepWaiting tells the bus that what waits in a lane is not forgotten.
func (l *lanes[T]) keepWaiting(lane string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.waiting[lane] {
		e := &l.waiting[lane][i]
		logAck(l.c, e.m.InProgress())
		e.since = time.Now()
	}
}

// kept handles a message, however long that takes. After workAckWait without a word it would come again, here or elsewhere.
func (l *lanes[T]) kept(ctx context.Context, lane string, e errand[T]) error {
	handled := make(chan struct{}) // closed then
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(laneWord)
		defer tick.Stop()
		for {
			select {
			case <-handled:
				return
			case <-tick.C:
				logAck(l.c, e.m.InProgress())
				l.keepWaiting(lane)
			}
		}
	})
	defer wg.Wait()
	defer close(handled)
	return l.handle(ctx, e.meta, e.v)
}

// enter waits for room; false when ctx ended.
func (l *lanes[T]) enter(ctx context.Context) bool {
	if l.room == nil {
		return ctx.Err() == nil
	}
	select {
	case l.room <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (l *lanes[T]) leave() {
	if l.room != nil {
		<-l.room
	}
}
