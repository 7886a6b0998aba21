package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// wave is what became of the jobs of one second.
type wave struct {
	wantCreated, wantOffered int
	created, offered         int
	lastCreated, lastOffered time.Duration // after the second in which they fell due
	fired                    time.Duration // the last tick
	cpu, dbCPU               time.Duration // of drydock and of the real servers, since the schedules were armed
	peak                     int64         // bytes
	changes, writes          int           // messages on the log, and syncs that they shared
}

func (w wave) done() bool { return w.created >= w.wantCreated && w.offered >= w.wantOffered }

// transition is what is read of a message on DRYDOCK_JOBS (docs/subjects.md).
type transition struct {
	State, Prev, Event string
	Job                struct{ ID, Task, Tick string }
}

// watch arms the schedules and follows the log of jobs until the last of the second is dispatched, or the bound.
func (s *site) watch(ctx context.Context, w wave, offers func(task string) bool, bound time.Duration) (wave, error) {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	stream, err := s.js.Stream(ctx, "DRYDOCK_JOBS")
	if err != nil {
		return w, err
	}
	cons, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy})
	if err != nil {
		return w, err
	}
	it, err := cons.Messages()
	if err != nil {
		return w, err
	}
	defer context.AfterFunc(ctx, it.Stop)()
	defer it.Stop()
	before, err := s.proc.CPU()
	if err != nil {
		return w, err
	}
	dbBefore := s.dbCPU()
	due, err := s.arm()
	if err != nil {
		return w, err
	}
	offered, looked, group := map[string]bool{}, time.Now(), ""
	for !w.done() {
		m, err := it.Next()
		if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
			break // the bound: what was done by then is told
		}
		if err != nil {
			return w, err
		}
		meta, err := m.Metadata()
		if err != nil {
			return w, err
		}
		var t transition
		if err := json.Unmarshal(m.Data(), &t); err != nil {
			return w, fmt.Errorf("read message %d of DRYDOCK_JOBS: %w", meta.Sequence.Stream, err)
		}
		w.changes++
		if g := m.Headers().Get("Nats-Batch-Id"); g == "" || g != group { // a group stands together
			w.writes, group = w.writes+1, g
		}
		after := meta.Timestamp.Sub(due)
		switch {
		case t.Event == "create":
			w.created, w.lastCreated = w.created+1, after
		case t.State == "available" && offers(t.Job.Task) && !offered[t.Job.ID]:
			offered[t.Job.ID] = true
			w.offered, w.lastOffered = w.offered+1, after
		}
		if time.Since(looked) > 200*time.Millisecond {
			looked = time.Now()
			if now, err := s.proc.Memory(); err == nil {
				w.peak = max(w.peak, now)
			}
		}
	}
	now, err := s.proc.CPU()
	if err != nil {
		return w, err
	}
	w.cpu, w.dbCPU = now-before, s.dbCPU()-dbBefore
	if w.fired, err = s.lastTick(due); err != nil {
		return w, err
	}
	return w, nil
}

// lastTick is how long after due the last of its ticks was decided.
func (s *site) lastTick(due time.Time) (last time.Duration, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	stream, err := s.js.Stream(ctx, "DRYDOCK_TASKS")
	if err != nil {
		return 0, err
	}
	for c := range s.clusters {
		for _, task := range s.due() {
			at, err := tickOf(ctx, stream, clusterName(c), task, due)
			if err != nil {
				return 0, err
			}
			last = max(last, at.Sub(due))
		}
	}
	return last, nil
}

// tickOf is when the tick of a task of a cluster was decided, which must have started its jobs. One that was noticed late did, too: the figure
// tells it.
func tickOf(ctx context.Context, stream jetstream.Stream, cluster, task string, due time.Time) (at time.Time, err error) {
	m, err := stream.GetLastMsgForSubject(ctx, "drydock.task."+cluster+"."+task)
	if err != nil {
		return at, fmt.Errorf("look for the tick of %s of %s: %w", task, cluster, err)
	}
	var tick struct {
		Outcome, Reason string
		Due             time.Time
	}
	if err := json.Unmarshal(m.Data, &tick); err != nil {
		return at, err
	}
	if tick.Outcome != "fired" && tick.Outcome != "late" || !tick.Due.Equal(due) {
		return at, fmt.Errorf("the tick of %s of %s is %s at %s (%s), and started nothing at %s", task, cluster, tick.Outcome, tick.Due, tick.Reason, due)
	}
	return m.Time, nil
}

const idleTime = 10 * time.Second

// settleTime is how long a drydock with so many servers is left alone at first: for more than the time after which each server is asked
// again, and until it has a connection to each, which the real servers here take 300 of a second of.
func settleTime(servers int) time.Duration {
	return 12*time.Second + time.Duration(servers)*4*time.Millisecond
}

// fanoutAPI measures mode api with one number of servers after the other.
func (b *bench) fanoutAPI(ctx context.Context) error {
	begun := time.Now()
	fmt.Printf("\n### Mode api: the tasks of every server due in the same second\n\n%s.\n", strings.Join((&site{own: b.own}).due(), ", "))
	fmt.Println("Created: all of every server are on the log. Dispatched: the four that need not have the server for themselves are `available`.")
	fmt.Println("\n| servers | start, s | idle memory, MiB | idle CPU, % of a core | last tick, s | last created, s | last dispatched, s | CPU of drydock until then, s | of the MariaDB servers, s | peak memory, MiB | changes a sync |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|---|")
	var sizes []int
	var rests []idle
	for _, n := range b.api {
		left := b.bound - time.Since(begun)
		if left < 0 {
			fmt.Printf("| %d | not begun: the %s for this part were over |\n", n, b.bound)
			continue
		}
		s, err := b.newSite(ctx, "api", n, b.ports(n))
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			fmt.Printf("| %d | not ready within %s |\n", n, upWithin)
			continue
		}
		if err != nil {
			return err
		}
		rest, w, err := s.measure(ctx, max(left, time.Minute))
		if err = errors.Join(err, s.stop()); err != nil {
			return fmt.Errorf("%d servers: %w", n, err)
		}
		fmt.Printf("| %d | %.1f | %.0f | %.1f | %.2f | %s | %s | %.1f | %.1f | %.0f | %.1f |\n", n, s.started.Seconds(), mib(rest.memory), rest.cpu*100, w.fired.Seconds(),
			reached(w.created, w.wantCreated, w.lastCreated), reached(w.offered, w.wantOffered, w.lastOffered), w.cpu.Seconds(), w.dbCPU.Seconds(), mib(w.peak), float64(w.changes)/float64(max(w.writes, 1)))
		sizes, rests = append(sizes, n), append(rests, rest)
	}
	if last := len(sizes) - 1; last > 0 && sizes[last] > sizes[0] {
		more := float64(rests[last].memory-rests[0].memory) / float64(sizes[last]-sizes[0])
		fmt.Printf("\nIdle memory for each further server, %d to %d: %.1f KiB.\n", sizes[0], sizes[last], more/1024)
	}
	return nil
}

func (s *site) measure(ctx context.Context, bound time.Duration) (rest idle, w wave, err error) {
	if rest, err = s.rest(ctx, settleTime(s.servers), idleTime); err != nil {
		return rest, w, err
	}
	w = wave{wantCreated: len(s.due()) * s.servers, wantOffered: len(free) * s.servers}
	w, err = s.watch(ctx, w, func(task string) bool { return free[task] }, bound)
	return rest, w, err
}

// reached is when the last was there, or how many were when the time was over.
func reached(n, want int, last time.Duration) string {
	if n >= want {
		return fmt.Sprintf("%.2f", last.Seconds())
	}
	return fmt.Sprintf("%d of %d after %.0f", n, want, last.Seconds())
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }
