package local

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"drydock/child"
)

// errStalled is the end of a tool that did nothing any more.
var errStalled = errors.New("the tool stood still")

// watchStall calls end with [errStalled] when neither the folder nor the processor time of process pid has changed for
// limit, and returns when ctx ends. mydumper 0.10 sometimes stops for ever, each of its threads waiting for another
// (mydumper issue 539), while everything that drydock could ask says that it lives.
func watchStall(ctx context.Context, dir string, pid int, limit time.Duration, end context.CancelCauseFunc) {
	tick := time.NewTicker(max(limit/10, 100*time.Millisecond))
	defer tick.Stop()
	var seen [2]int64
	since := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := [2]int64{sizeOf(dir), child.ProcessorTime(pid)}
		if now != seen {
			seen, since = now, time.Now()
		}
		if time.Since(since) >= limit {
			end(errStalled)
			return
		}
	}
}

// sizeOf is the size of the files in a folder, as far as they can be seen.
func sizeOf(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // renamed just now
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			sum += info.Size() + 1
		}
		return nil
	})
	return sum
}
