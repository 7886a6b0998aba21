package recovery

import (
	"cmp"
	"io/fs"
	"path/filepath"
	"time"

	"drydock/child"
)

// stillMost is how long a tool may do nothing. Some stop for ever, each thread waiting for another, and a drill has no other bound: a
// large backup takes as long as it takes.
const stillMost = time.Hour

// endStill ends a tool when for [Config.Still] neither it nor what works in the folder used a processor and nothing there was written.
// done, to be called when the tool has ended, is that time if so, else zero.
func (c *Copy) endStill(tool *process) (done func() time.Duration) {
	limit := cmp.Or(c.cfg.Still, stillMost)
	ended := make(chan time.Duration, 1)
	go func() {
		tick := time.NewTicker(limit / 10)
		defer tick.Stop()
		seen, since := c.signs(), time.Now()
		for {
			select {
			case <-tool.done:
				ended <- 0
				return
			case <-tick.C:
			}
			if now := c.signs(); now != seen {
				seen, since = now, time.Now()
			}
			if time.Since(since) >= limit {
				tool.kill()
				ended <- limit
				return
			}
		}
	}()
	return func() time.Duration { return <-ended }
}

// signs are what changes while something is done: the processor time of all that works in the folder, and its files.
func (c *Copy) signs() (s struct {
	ticks, bytes int64
	newest       time.Time
}) {
	for _, pid := range homed([]byte("HOME=" + c.cfg.Folder)) {
		s.ticks += child.ProcessorTime(pid)
	}
	_ = filepath.WalkDir(c.cfg.Folder, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // renamed or removed just now
		}
		if info, err := d.Info(); err == nil {
			s.bytes += info.Size()
			if info.ModTime().After(s.newest) {
				s.newest = info.ModTime()
			}
		}
		return nil
	})
	return s
}
