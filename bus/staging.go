package bus

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/nats-io/nats-server/v2/server"
)

// JetStream stages an atomic batch in a folder of its own and syncs that five times, so that it can complete a batch that a
// crash cut. Nothing of ours needs a cut batch to be completed: its writers were told nothing, read back and write again,
// and every message of a group stands for itself. So the embedded server stages in memory, and a group costs one sync,
// that of its stream: 64 messages took 6.5 ms, and take 2.6. kill -9 leaves what is staged; a power cut does not, and may
// leave the first messages of a group without the rest, as single writes would.
//
// The place of the staging folder is not promised by NATS. Where it is another one day, batches are staged on disk: slower, and nothing
// else. While others have filled the memory, messages are written one by one: JetStream keeps count of the batches that it could not
// stage, and takes none any more after fifty of them.
const (
	stagingIn     = "/dev/shm"
	stagingPrefix = "drydock-staging-"
	stagingLink   = "staging" // in the store folder: leads to the memory
	stagingFolder = "batches" // of a stream, where JetStream stages its batches
	stagingLock   = "lock"    // in the folder in memory: locked while its server lives
	stagingRoom   = 16 << 20  // bytes free, without which nothing is staged: each stream may have a group of batchSize at a time
)

// stage has the batches of each stream that takes any staged in memory. It needs the streams, and changes nothing where it
// was done already.
func (s *Server) stage() error {
	if !inMemory(stagingIn) {
		return nil
	}
	s.staging.Lock()
	defer s.staging.Unlock()
	root := filepath.Join(s.cfg.Dir, stagingLink)
	if _, err := os.Stat(root); errors.Is(err, fs.ErrNotExist) {
		sweepMemory()
		if err := s.linkMemory(root); err != nil {
			return err
		}
	}
	var errs []error
	for _, cfg := range streams(Limits{}) {
		if cfg.AllowAtomicPublish {
			errs = append(errs, s.stageStream(cfg.Name))
		}
	}
	return errors.Join(errs...)
}

// sweepMemory removes the folders in memory of servers that are gone and did not come back: their store may be deleted, and memory
// that nobody knows of is lost until the machine starts anew. One that is not ours to open stays, and so does one without a lock: an older
// drydock may be at it.
func sweepMemory() {
	left, _ := filepath.Glob(filepath.Join(stagingIn, stagingPrefix+"*"))
	for _, dir := range left {
		lock, err := os.OpenFile(filepath.Join(dir, stagingLock), os.O_RDWR|syscall.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(dir) // what stays is looked at by the next
		}
		_ = lock.Close()
	}
}

// linkMemory has root lead to a new folder in memory. The link comes first: a process that is killed between the two leaves
// no folder that the next start does not know.
func (s *Server) linkMemory(root string) error {
	if err := os.Remove(root); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replace link to the staging folder: %w", err)
	}
	dir := filepath.Join(stagingIn, stagingPrefix+strings.ToLower(rand.Text()))
	if err := os.Symlink(dir, root); err != nil {
		return fmt.Errorf("link staging folder: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("create staging folder: %w", err)
	}
	lock, err := lockFile(filepath.Join(dir, stagingLock))
	if err != nil {
		return fmt.Errorf("lock staging folder: %w", err)
	}
	s.letMemory()
	s.memory = lock
	return nil
}

// letMemory gives the lock of the folder in memory up.
func (s *Server) letMemory() {
	if s.memory != nil {
		_ = s.memory.Close()
		s.memory = nil
	}
}

func (s *Server) stageStream(name string) error {
	stream := filepath.Join(s.cfg.Dir, server.JetStreamStoreDir, server.DEFAULT_GLOBAL_ACCOUNT, "streams", name)
	if _, err := os.Stat(stream); err != nil {
		return nil // not declared yet
	}
	if err := os.Mkdir(filepath.Join(s.cfg.Dir, stagingLink, name), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create staging folder of %s: %w", name, err)
	}
	link, to := filepath.Join(stream, stagingFolder), filepath.Join("..", "..", "..", "..", stagingLink, name)
	if now, err := os.Readlink(link); err == nil && now == to {
		return nil
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replace staging folder of %s: %w", name, err) // a batch is staged there now
	}
	if err := os.Symlink(to, link); err != nil {
		return fmt.Errorf("link staging folder of %s: %w", name, err)
	}
	return nil
}

// staged is the folder in memory, that of a server that was killed included; empty when there is none.
func (s *Server) staged() string {
	dir, err := os.Readlink(filepath.Join(s.cfg.Dir, stagingLink))
	if err != nil || filepath.Dir(dir) != stagingIn || !strings.HasPrefix(filepath.Base(dir), stagingPrefix) {
		return ""
	}
	return dir
}

// unstage removes the folder in memory, then the link that it is known by.
func (s *Server) unstage() error {
	s.staging.Lock()
	defer s.staging.Unlock()
	dir := s.staged()
	if dir == "" {
		return nil
	}
	s.letMemory()
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Remove(filepath.Join(s.cfg.Dir, stagingLink))
}

// inMemory reports whether a folder is one of a tmpfs with room for groups, if nobody else uses it. Containers have small ones.
func inMemory(dir string) bool {
	const tmpfsMagic = 0x01021994
	var st syscall.Statfs_t
	return syscall.Statfs(dir, &st) == nil && st.Type == tmpfsMagic && (st.Blocks == 0 || roomy(st.Blocks/2, st.Bsize))
}

// roomToStage reports whether a tmpfs has room for a group now.
func roomToStage(dir string) bool {
	var st syscall.Statfs_t
	return syscall.Statfs(dir, &st) == nil && (st.Blocks == 0 || roomy(st.Bavail, st.Bsize)) // no blocks at all: it has no bound
}

func roomy(blocks uint64, size int64) bool { return blocks >= stagingRoom/uint64(size) }
