package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// checkBackups compares every backup that is called a success with what the tool wrote, by the notes of the tool's
// wrapper, and the newest by unpacking and preparing it.
func (v *verdict) checkBackups(ctx context.Context, s *site, jobs []entry[jobRecord], catalog []entry[manifestRecord]) {
	byID := map[string]entry[manifestRecord]{}
	for _, e := range catalog {
		byID[e.V.ID] = e // the last one counts
	}
	wrote := toolSums(s.path("sent"))
	success := map[string]uint64{}
	for _, e := range jobs {
		if e.V.Job.Task == "mariabackup" && e.V.State == "success" {
			success[e.V.Job.ID] = e.Seq
		}
	}
	var newest string
	for id, seq := range success {
		m, ok := byID[id]
		if !ok {
			v.broken(promiseBackups, "DRYDOCK_JOBS", []uint64{seq}, "backup %s is a success and not in the catalogue", id)
			continue
		}
		if err := sameBytes(ctx, m.V, wrote); err != nil {
			v.broken(promiseBackups, "KV_drydock_catalog", []uint64{m.Seq}, "backup %s: %v", id, err)
		}
		newest = max(newest, id)
	}
	for id, m := range byID {
		if _, ok := success[id]; !ok {
			v.broken(promiseBackups, "KV_drydock_catalog", []uint64{m.Seq}, "backup %s is in the catalogue and no job of it is a success", id)
		}
	}
	if newest != "" {
		if err := prepare(ctx, byID[newest].V.Path, s.path("tmp-prepare")); err != nil {
			v.broken(promiseBackups, "", nil, "the newest backup, %s, cannot be prepared: %v", newest, err)
		}
	}
	v.checked("%d backups called a success, each hashed on the disk and compared with what the tool wrote (%d streams of it); the newest unpacked and prepared", len(success), len(wrote))
}

// toolSums are the hashes of what the tool wrote, with its exit statuses ("0 0"), empty when the wrapper was killed.
func toolSums(dir string) map[string]string {
	out := map[string]string{}
	sums, _ := filepath.Glob(filepath.Join(dir, "*.sum"))
	for _, path := range sums {
		sum, err := os.ReadFile(path)
		if err != nil || len(sum) < 64 {
			continue
		}
		ends, _ := os.ReadFile(strings.TrimSuffix(path, ".sum") + ".exit")
		out[string(sum[:64])] = strings.TrimSpace(string(ends))
	}
	return out
}

func sameBytes(ctx context.Context, m manifestRecord, wrote map[string]string) error {
	f, err := os.Open(m.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != m.StoredHash || n != m.Stored {
		return fmt.Errorf("%d bytes with hash %s are on the disk, %d with %s in the manifest", n, got, m.Stored, m.StoredHash)
	}
	h, cmd := sha256.New(), exec.CommandContext(ctx, "zstd", "-dqc", m.Path)
	cmd.Stdout = h
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("unpack %s: %w", m.Path, err)
	}
	got := hex.EncodeToString(h.Sum(nil))
	if got != m.Hash {
		return fmt.Errorf("it unpacks to hash %s, the manifest says %s", got, m.Hash)
	}
	switch ends, ok := wrote[got]; {
	case !ok:
		return fmt.Errorf("no run of the tool wrote a stream with hash %s", got)
	case ends != "0 0":
		return fmt.Errorf("the tool that wrote it ended with status %q", ends)
	}
	return nil
}

func prepare(ctx context.Context, path, dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	out, err := exec.CommandContext(ctx, "bash", "-c", `set -o pipefail; zstd -dqc "$1" | mbstream -x -C "$2" && mariadb-backup --prepare --target-dir="$2"`, "bash", path, dir).CombinedOutput()
	if err == nil && !bytes.Contains(out, []byte("completed OK!")) {
		err = errors.New("no end line")
	}
	if err != nil {
		return fmt.Errorf("%w: %s", err, out[max(0, len(out)-500):])
	}
	return nil
}

// checkCollected compares the collected error log with the server's own. Of several receivers each has pieces of it.
func (v *verdict) checkCollected(s *site) {
	whole, err := os.ReadFile(s.db.ErrorLog())
	if err != nil {
		v.broken(promiseLogs, "", nil, "%v", err)
		return
	}
	var pieces []string
	for _, home := range s.homes() {
		text, err := os.ReadFile(filepath.Join(home, cluster, fmt.Sprintf("127.0.0.1_%d", s.db.Port()), "log_error.log"))
		if err == nil {
			pieces = append(pieces, string(text))
		}
	}
	got := strings.Join(pieces, "")
	if len(got) == 0 || len(got) > len(whole) {
		v.broken(promiseLogs, "", nil, "%d bytes of the error log were collected, the server wrote %d", len(got), len(whole))
		return
	}
	want := string(whole[:len(got)])
	if len(pieces) > 1 { // each has them in their order, which is not that of all
		got, want = sortedLines(got), sortedLines(want)
	}
	if same := sameFor(got, want); same < len(got) {
		v.broken(promiseLogs, "", nil, "the collected error log (%d bytes) and the server's (%d) are the same up to byte %d only", len(got), len(whole), same)
	}
	v.checked("%d bytes of collected error log, in %d files, compared with the first of the server's %d", len(got), len(pieces), len(whole))
}

func sortedLines(text string) string {
	lines := strings.SplitAfter(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// sameFor is how many bytes two texts begin with alike.
func sameFor(a, b string) (n int) {
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// checkFiles looks for files that belong to nothing: in drydock's folder, in the script's, in the temporary folder of both.
// Both have ended.
func (v *verdict) checkFiles(s *site, catalog []entry[manifestRecord]) {
	known := map[string]bool{}
	for _, e := range catalog {
		for _, suffix := range []string{"", ".manifest.json", ".notes.json"} {
			known[e.V.Path+suffix] = true
		}
	}
	files := 0
	walk := func(root string, over func(path string) bool) {
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return nil
			}
			files++
			if over(path) {
				v.broken(promiseFiles, "", nil, "%s is left over", strings.TrimPrefix(path, s.dir+"/"))
			}
			return nil
		})
	}
	for _, home := range s.homes() {
		walk(home, func(path string) bool {
			rel, _ := filepath.Rel(home, path)
			top, _, _ := strings.Cut(rel, "/")
			switch name := filepath.Base(path); {
			case top == "nats": // NATS's own
				return false
			case rel == "Backups/.binlogs.lock" || rel == "work/.lock":
				return false
			case top == "work" || top == "drills" || unfinished(name):
				return true
			case top == "Backups":
				return !known[path] && filepath.Base(filepath.Dir(path)) != "rejected"
			}
			return false
		})
	}
	walk(s.path("tmp"), func(string) bool { return true })
	walk(s.path("state"), func(path string) bool {
		in := filepath.Base(filepath.Dir(path))
		return in == "work" || in == "jobs" || unfinished(filepath.Base(path))
	})
	if s.split == nil && len(s.staging) == 0 && inMemory("/dev/shm") {
		v.broken(promiseFiles, "", nil, "no folder was found in which groups of messages are staged: this looks in the wrong place")
	}
	for dir := range s.staging {
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			v.broken(promiseFiles, "", nil, "%s is left over, where groups of messages were staged", dir)
		}
	}
	if files == 0 {
		v.broken(promiseFiles, "", nil, "not one file was found to look at")
	}
	v.checked("%d files in the folders of drydock and of the script, and %d folders in which groups of messages were staged", files, len(s.staging))
}

// inMemory says whether a folder is one of a tmpfs, as the bus wants it.
func inMemory(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.TMPFS_MAGIC
}

// unfinished says that a name is one that files have until they get another.
func unfinished(name string) bool {
	for _, suffix := range []string{".part", ".tmp", ".journal", ".new"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return strings.Contains(name, ".new.") // of the script: the number of its process follows
}
