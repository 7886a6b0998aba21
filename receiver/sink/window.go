package sink

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Sizes measured in perf.md section 1 ("dn8").
const (
	blockSize  = 256 << 10 // bytes of one write; larger buffered writes were slower on ext4
	windowSize = 8 << 20   // bytes between two pushes to the disk
)

// windowWriter writes to a file and pushes the data out behind itself, window by window: start
// writing the last window, wait for the one before and drop it from the page cache. Memory stays
// small and warm, the final fsync has little left to do, and a disk error shows within two windows
// instead of at the end.
type windowWriter struct {
	file    *os.File
	written int64 // offset of the next write
	pushed  int64 // everything before is being written or is on disk
	settled int64 // everything before is on disk and out of the cache
	plain   bool  // the file system cannot do it; fsync at the end does all the work
}

// Write implements io.Writer; its errors have ErrWrite in their chain.
func (w *windowWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	w.written += int64(n)
	if err == nil && !w.plain && w.written-w.pushed >= windowSize {
		err = w.push()
	}
	if err != nil {
		return n, writeError(err)
	}
	return n, nil
}

func (w *windowWriter) push() error {
	err := w.syncRange(w.pushed, w.written, unix.SYNC_FILE_RANGE_WRITE)
	if err == nil && w.pushed > w.settled {
		err = w.syncRange(w.settled, w.pushed,
			unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
		if err == nil {
			// Advice only: a kernel that refuses it costs speed, not bytes.
			_ = unix.Fadvise(int(w.file.Fd()), w.settled, w.pushed-w.settled, unix.FADV_DONTNEED)
		}
	}
	if unsupported(err) {
		w.plain = true
		return nil
	}
	w.settled, w.pushed = w.pushed, w.written
	return err
}

// syncRange reports write-back errors. They must not be passed over: the kernel tells each of them
// once per open file, so the fsync at the end would then succeed.
func (w *windowWriter) syncRange(from, to int64, flags int) error {
	for {
		err := unix.SyncFileRange(int(w.file.Fd()), from, to-from, flags)
		if err != unix.EINTR {
			return os.NewSyscallError("sync_file_range", err)
		}
	}
}

func unsupported(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) ||
		errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ESPIPE)
}
