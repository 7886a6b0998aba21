package web

import (
	"context"
	"sync"
	"time"

	"drydock/bus"
)

// calendar is what the schedulers answered last. Asking takes them a read per schedule, so that the pages share it.
type calendar struct {
	mu    sync.Mutex
	at    time.Time
	stale bool // a tick was decided since
	all   []bus.ScheduleInfo
	err   error
}

const (
	// calendarFresh is how long an answer serves at most, calendarLeast at least.
	calendarFresh = 20 * time.Second
	calendarLeast = time.Second
	calendarWait  = 2 * time.Second
)

// schedules are those of all clusters; err when no scheduler answers.
func (w *Web) schedules(ctx context.Context) ([]bus.ScheduleInfo, error) {
	c := &w.calendar
	c.mu.Lock()
	defer c.mu.Unlock()
	if age := time.Since(c.at); age < calendarLeast || age < calendarFresh && !c.stale {
		return c.all, c.err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), calendarWait) // others wait for the answer too
	defer cancel()
	rep, err := bus.Request[bus.NextReply](ctx, w.Conn, bus.SubjectNext, struct{}{})
	c.all, c.err, c.at, c.stale = rep.Schedules, err, time.Now(), false
	return c.all, c.err
}

func (c *calendar) changed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stale = true
}
