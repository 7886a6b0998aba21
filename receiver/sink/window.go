package sink

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Sizes measured in perf.md section 1 ("dn8").
const (
	blockSize  = 256 << 10 // bytes of one write; larger buffered writes were slower on ext4
	windowSize = 8 << 20   // bytes between two pushes to the disk
)

// windowWriter writes to a file while a goroutine of its own pushes the data out behind it, window by window: start
// writing the last window, wait for the one before and drop it from the page cache. Memory stays small and warm, the final
// fsync has little left to do, a disk error shows within three windows instead of at the end, and nobody who writes waits
// for the disk before it is two windows behind.
type windowWriter struct {
	file    *os.File
	written int64 // offset of the next write
	handed  int64 // everything before is the pusher's

	windows chan window // to the pusher; nil before the first one, closed by settle. Unbuffered: this is what bounds the lag
	pusher  sync.WaitGroup
	settled atomic.Int64          // set by the pusher: everything before is on disk and out of the cache
	broken  atomic.Pointer[error] // set by the pusher, once
}

// window is a part of the file, in bytes.
type window struct{ from, to int64 }

// Write implements io.Writer; its errors have ErrWrite in their chain.
func (w *windowWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	w.written += int64(n)
	if err != nil {
		return n, writeError(err)
	}
	if w.written-w.handed >= windowSize {
		w.hand()
	}
	return n, w.err()
}

// err is what the pusher met.
func (w *windowWriter) err() error {
	if e := w.broken.Load(); e != nil {
		return writeError(*e)
	}
	return nil
}

func (w *windowWriter) hand() {
	if w.windows == nil {
		w.windows = make(chan window)
		w.pusher.Go(func() { w.push(w.windows) })
	}
	w.windows <- window{w.handed, w.written}
	w.handed = w.written
}

// settle ends the pusher, waits for it and says what it met. It may be called again.
func (w *windowWriter) settle() error {
	if w.windows != nil {
		close(w.windows)
		w.windows = nil
	}
	w.pusher.Wait()
	return w.err()
}

// push takes windows until there are no more. After an error, and where the file system cannot do it, it lets them pass:
// the writer must not wait for nothing.
func (w *windowWriter) push(windows <-chan window) {
	var last window
	for next := range windows {
		err := w.syncRange(next, unix.SYNC_FILE_RANGE_WRITE)
		if err == nil && last.to > 0 {
			err = w.finish(last)
		}
		last = next
		if err == nil {
			continue
		}
		if !unsupported(err) { // there the fsync at the end does all the work
			w.broken.Store(&err)
		}
		for range windows {
		}
	}
}

// finish waits until a window is on disk and drops it from the page cache.
func (w *windowWriter) finish(of window) error {
	err := w.syncRange(of, unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
	if err == nil {
		w.drop(of)
		w.settled.Store(of.to)
	}
	return err
}

// drop is advice only: a kernel that refuses it costs speed, not bytes.
func (w *windowWriter) drop(of window) {
	_ = unix.Fadvise(int(w.file.Fd()), of.from, of.to-of.from, unix.FADV_DONTNEED)
}

// sync makes all of the file durable and leaves nothing of a large one in the page cache.
func (w *windowWriter) sync() error {
	if err := w.settle(); err != nil {
		return err
	}
	if err := w.file.Sync(); err != nil {
		return writeError(err)
	}
	if w.handed > 0 {
		w.drop(window{0, w.written})
	}
	return nil
}

// syncRange reports write-back errors. They must not be passed over: the kernel tells each of them
// once per open file, so the fsync at the end would then succeed.
func (w *windowWriter) syncRange(of window, flags int) error {
	for {
		err := unix.SyncFileRange(int(w.file.Fd()), of.from, of.to-of.from, flags)
		if err != unix.EINTR {
			return os.NewSyscallError("sync_file_range", err)
		}
	}
}

func unsupported(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) ||
		errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ESPIPE)
}
