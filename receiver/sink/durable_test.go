package sink

import (
	"errors"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fiemap is the request of FS_IOC_FIEMAP with room for 32 extents (linux/fiemap.h).
type fiemap struct {
	start, length           uint64
	flags, mapped, count, _ uint32
	extents                 [32]struct {
		logical, physical, length uint64
		_                         [2]uint64
		flags                     uint32
		_                         [3]uint32
	}
}

// inCacheOnly says whether path has bytes that the file system has given no place on disk yet. File
// systems that do not delay that, or cannot tell, answer false.
func inCacheOnly(t *testing.T, path string) bool {
	t.Helper()
	const fsIocFiemap, extentDelalloc = 0xc020660b, 0x4
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := fiemap{length: 1<<63 - 1}
	m.count = uint32(len(m.extents))
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fsIocFiemap, uintptr(unsafe.Pointer(&m)))
	if errno != 0 && !errors.Is(errno, unix.EOPNOTSUPP) && !errors.Is(errno, unix.ENOTTY) {
		t.Fatal(errno)
	}
	for _, e := range m.extents[:m.mapped] {
		if e.flags&extentDelalloc != 0 {
			return true
		}
	}
	return false
}

func TestFinishedBytesAreNotOnlyInTheCache(t *testing.T) {
	t.Parallel()
	spec := newSpec(t)
	res := receive(t, spec, sample(100<<10)) // less than a window: only the sync at the end can have done it
	if inCacheOnly(t, res.Path) {
		t.Error("Finish returned before the file was on disk")
	}
	mustAppend(t, spec)
	if inCacheOnly(t, spec.Final()) {
		t.Error("AppendLog returned before the log was on disk")
	}
}
