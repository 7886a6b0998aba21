package bus

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/nats-io/nats-server/v2/server"
)

// JetStream stages an atomic batch in a folder of its own and syncs that five times, so that it can complete a batch that a
// crash cut. Nothing of ours needs a cut batch to be completed: its writers were told nothing, read back and write again,
// and every message of a group stands for itself. So the embedded server stages in memory, and a group costs one sync,
// that of its stream: 64 messages took 6.5 ms, and take 2.5. kill -9 leaves what is staged; a power cut does not, and may leave the
// first messages of a group without the rest, as single writes would.
//
// The place of the staging folder is not promised by NATS. Where it is another one day, or memory has no room, batches are
// staged on disk, or refused and their messages written one by one: slower, and nothing else.
const (
	stagingIn     = "/dev/shm"
	stagingPrefix = "drydock-staging-"
	stagingFolder = "batches" // of a stream, where JetStream stages its batches
)

// stage has the batches of each stream that takes any staged in memory. It needs the streams, and changes nothing where it
// was done already.
func (s *Server) stage() error {
	if !inMemory(stagingIn) {
		return nil
	}
	var errs []error
	for _, link := range s.stagingLinks() {
		if _, err := os.Stat(filepath.Dir(link)); err != nil {
			continue // not declared yet
		}
		if _, err := os.Stat(link); err == nil && stagedIn(link) != "" {
			continue
		}
		errs = append(errs, stageIn(link))
	}
	return errors.Join(errs...)
}

// stageIn has a link lead to a new folder in memory. The link comes first: a process that is killed between the two leaves no folder
// that nobody knows of.
func stageIn(link string) error {
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("replace staging folder: %w", err) // a batch is staged there now
	}
	dir := filepath.Join(stagingIn, stagingPrefix+strings.ToLower(rand.Text()))
	if err := os.Symlink(dir, link); err != nil {
		return fmt.Errorf("link staging folder: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return errors.Join(fmt.Errorf("create staging folder: %w", err), os.Remove(link))
	}
	return nil
}

// staged are the folders in memory that streams stage in, those of a server that was killed included.
func (s *Server) staged() (dirs []string) {
	for _, link := range s.stagingLinks() {
		if dir := stagedIn(link); dir != "" {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// stagedIn is where a link of [stageIn] leads, empty for anything else.
func stagedIn(link string) string {
	dir, err := os.Readlink(link)
	if err != nil || filepath.Dir(dir) != stagingIn || !strings.HasPrefix(filepath.Base(dir), stagingPrefix) {
		return ""
	}
	return dir
}

func (s *Server) stagingLinks() (links []string) {
	for _, cfg := range streams(Limits{}) {
		if cfg.AllowAtomicPublish {
			links = append(links, filepath.Join(s.cfg.Dir, server.JetStreamStoreDir, server.DEFAULT_GLOBAL_ACCOUNT, "streams", cfg.Name, stagingFolder))
		}
	}
	return links
}

func removeAll(dirs []string) error {
	var errs []error
	for _, dir := range dirs {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// inMemory reports whether a folder is one of a tmpfs. It does not look for room: a small one, as containers have, is
// enough for a group.
func inMemory(dir string) bool {
	const tmpfsMagic = 0x01021994
	var st syscall.Statfs_t
	return syscall.Statfs(dir, &st) == nil && st.Type == tmpfsMagic
}
