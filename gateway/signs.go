package gateway

import (
	"sync"
	"time"

	"drydock/bus"
	"drydock/job"
)

// signs keeps signs of life down to one a second per attempt and kind. The zero value is ready.
type signs struct {
	mu   sync.Mutex
	last map[signKey]time.Time
}

type signKey struct {
	run  string
	sign bus.Sign
}

const (
	signEvery = time.Second
	signsMax  = 10_000 // attempts remembered; forgetting one costs a message
)

func (s *signs) due(k signKey, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.last[k]) < signEvery {
		return false
	}
	if s.last == nil || len(s.last) >= signsMax {
		s.last = map[signKey]time.Time{}
	}
	s.last[k] = now
	return true
}

// sign tells the sweeper that the worker of a job lives. A lost sign is followed by the next one.
func (g *Gateway) sign(j job.Job, sign bus.Sign) {
	now := time.Now().UTC()
	if !j.State.Live() || !g.signs.due(signKey{j.Run(), sign}, now) {
		return
	}
	p := bus.Progress{
		Sign: sign, Cluster: j.Cluster, Server: j.Server, Task: j.Task, JobID: j.ID, Attempt: j.Attempt,
		Type: bus.TypeProgress, Time: now,
	}
	if err := g.Conn.Publish(bus.ProgressSubject(j.Cluster, j.Server.Host, j.Server.Port, j.Task), p); err != nil {
		g.log.Warn("publish a sign of life", "job", j, "err", err)
	}
}
