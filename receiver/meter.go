package receiver

import (
	"sync"
	"sync/atomic"
	"time"

	"drydock/bus"
	"drydock/store"
)

// meter publishes what moved of the stream of an attempt, once a second and only if something did: bytes are the job's
// sign of life.
func (p *Pool) meter(ref store.Ref, moved *atomic.Int64) (stop func()) {
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		beat := time.NewTicker(time.Second)
		defer beat.Stop()
		last, lastAt := int64(0), time.Now()
		for {
			select {
			case <-quit:
				return
			case now := <-beat.C:
				if n := moved.Load(); n != last {
					p.progress(ref, bus.SignBytes, n, float64(n-last)/now.Sub(lastAt).Seconds())
					last = n
				}
				lastAt = now
			}
		}
	})
	return func() {
		close(quit)
		wg.Wait()
	}
}

func (p *Pool) progress(ref store.Ref, sign bus.Sign, bytes int64, rate float64) {
	k := ref.Key
	err := p.conn.Publish(bus.ProgressSubject(k.Cluster, k.Server.Host, k.Server.Port, k.Task), bus.Progress{
		Sign: sign, Bytes: bytes, Rate: rate, Cluster: k.Cluster, Server: k.Server, Task: k.Task,
		JobID: ref.ID, Attempt: ref.Attempt, Type: bus.TypeProgress, Time: time.Now().UTC(),
	})
	if err != nil {
		p.cfg.Log.Debug("publish progress", "job_id", ref.ID, "err", err)
	}
}
