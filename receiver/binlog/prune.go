package binlog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"drydock/store"
)

// useFile is locked in the folder of a server's segments: shared by who reads them, alone by who deletes some.
const useFile = ".in-use"

// lockFolder takes the lock; wait is false for a lock that another process has (nil, nil).
func lockUse(dir string, how int) (release func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, useFile), os.O_CREATE|os.O_RDONLY, 0o600)
	if errors.Is(err, os.ErrPermission) && how&syscall.LOCK_SH != 0 {
		return func() {}, nil // a copy that may only be read is not pruned either
	}
	if err != nil {
		return nil, fmt.Errorf("lock the segments: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, fmt.Errorf("lock the segments: %w", err)
	}
	return func() { f.Close() }, nil
}

// ErrInUse says that segments are being read, or just being deleted.
var ErrInUse = errors.New("the segments are in use")

// Needless are the segments that no replay on a base can need: those that lie before the place where the replay on the oldest one
// begins. Without a base nothing is needless, and of a base for which no beginning is found all that was logged since it was taken
// is kept. The newest segment always stays: the archive goes on from it. One that is lost counts as if it were there: a disk that was
// away comes back. It is pure.
func Needless(segments []store.Segment, bases []Base) (out []store.Segment) {
	segments = slices.Clone(segments)
	for i := range segments {
		segments[i].Lost = ""
	}
	links := store.BinlogChain(segments)
	if len(bases) == 0 || len(links) == 0 {
		return nil
	}
	first := len(links) - 1
	for _, b := range bases {
		at, err := begin(links, b)
		if err != nil {
			at = since(links, b)
		}
		first = min(first, at)
	}
	needed := map[string]bool{}
	for _, l := range links[first:] {
		needed[l.ID()] = true
	}
	for _, s := range segments {
		if !needed[s.ID()] && !s.Open && s.Taken.Before(links[first].Taken) {
			out = append(out, s)
		}
	}
	return out
}

// since is the first segment that may hold something younger than a base.
func since(links []store.BinlogLink, b Base) int {
	for i, l := range links {
		if b.Time.IsZero() || !l.Until().Before(b.Time.Add(-clockSlack)) {
			return i
		}
	}
	return len(links) - 1
}

// Owner is the receiver that deletes segments.
type Owner struct {
	Receiver string
	Dir      string    // of all its backups: nothing beyond is deleted
	Spare    time.Time // what was taken before stays
}

// Prune deletes the needless segments that a receiver has of a cluster, and returns those that are gone. It may be stopped at any
// moment and called again. Segments that a replay is reading stay until the next time. bases are all that a restore may begin with.
func Prune(ctx context.Context, binlogs *store.Binlogs, o Owner, cluster string, bases []Base) (gone []store.Segment, err error) {
	segments, err := binlogs.List(ctx, cluster)
	if err != nil {
		return nil, err
	}
	locked := map[string]func(){}
	defer func() {
		for _, release := range locked {
			if release != nil {
				release()
			}
		}
	}()
	for _, s := range Needless(segments, bases) {
		if s.Receiver != o.Receiver || !isOwn(o.Dir, s) || s.Taken.Before(o.Spare) {
			continue
		}
		dir := filepath.Dir(s.Path)
		if _, tried := locked[dir]; !tried {
			locked[dir], err = lockUse(dir, syscall.LOCK_EX)
			if err != nil && !errors.Is(err, ErrInUse) && !errors.Is(err, os.ErrNotExist) {
				return gone, err
			}
		}
		if locked[dir] == nil {
			continue
		}
		if err := remove(ctx, binlogs, s); err != nil {
			return gone, err
		}
		gone = append(gone, s)
	}
	return gone, nil
}

// remove deletes a segment: first what tells of it, so that a crash in between leaves a file that is found again, and never a promise
// of one that is gone.
func remove(ctx context.Context, binlogs *store.Binlogs, s store.Segment) error {
	if err := binlogs.Remove(ctx, s); err != nil {
		return err
	}
	err := errors.Join(removeIfThere(s.Path+ManifestSuffix), removeIfThere(s.Path))
	if err != nil {
		return fmt.Errorf("delete segment %s: %w", s.ID(), err)
	}
	return nil
}
