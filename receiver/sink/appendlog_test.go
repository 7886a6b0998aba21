package sink

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func mustAppend(t *testing.T, spec Spec) (base, size int64) {
	t.Helper()
	base, size, err := AppendLog(spec)
	if err != nil {
		t.Fatal(err)
	}
	return base, size
}

func TestLogGrowsByEachStreamOnce(t *testing.T) {
	t.Parallel()
	spec := newSpec(t)
	want := ""
	for i, piece := range []string{"one\n", "", "three\n"} {
		next := spec.withTag(fmt.Sprintf("job%d-1", i))
		receive(t, next, []byte(piece))
		for range 3 {
			base, size := mustAppend(t, next)
			if base != int64(len(want)) || size != int64(len(piece)) {
				t.Fatalf("stream %d is said to be %d bytes from %d", i, size, base)
			}
			wantContent(t, spec.Final(), want+piece)
			wantFiles(t, spec.Dir, ".log_error.log.last", "log_error.log")
		}
		want += piece
	}
}

func TestAppendOfNothingIsNotSuccess(t *testing.T) {
	t.Parallel()
	spec := newSpec(t)
	if _, _, err := AppendLog(spec); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("without any file: %v", err)
	}
	receive(t, spec, []byte("x"))
	spec.Compress = Zstd
	if _, _, err := AppendLog(spec); err == nil {
		t.Fatal("a compressed log was accepted")
	}
}

// crash is what a test panics with to stop appendLog dead, as kill -9 would.
type crash struct{ step string }

// crashAt runs appendLog until the given call of its hook, and returns the step it died before, or
// "" when it ended first.
func crashAt(t *testing.T, spec Spec, call int) (died string) {
	t.Helper()
	defer func() {
		if c, ok := recover().(crash); ok {
			died = c.step
		}
	}()
	calls := 0
	_, _, err := appendLog(spec, func(step string) {
		if calls == call {
			panic(crash{step})
		}
		calls++
	})
	if err != nil {
		t.Fatal(err)
	}
	return ""
}

const before, piece = "before\n", "the piece\n"

// crashed is a log with content and a stream whose append died before the given call's step.
func crashed(t *testing.T, call int) (spec Spec, died string) {
	spec = newSpec(t)
	receive(t, spec.withTag("job0-1"), []byte(before))
	mustAppend(t, spec.withTag("job0-1"))
	receive(t, spec, []byte(piece))
	return spec, crashAt(t, spec, call)
}

// eachCrash runs check once for each step of an append that a crash can fall before.
func eachCrash(t *testing.T, check func(t *testing.T, call int)) {
	var steps []string
	for call := 0; ; call++ {
		_, died := crashed(t, call)
		if died == "" {
			break
		}
		steps = append(steps, died)
		t.Run(strings.ReplaceAll(died, " ", "_"), func(t *testing.T) { check(t, call) })
	}
	want := "open log,write journal,rename journal,sync journal,copy,sync log,commit,sync commit,remove temp"
	if got := strings.Join(steps, ","); got != want {
		t.Errorf("steps are %s, want %s", got, want)
	}
}

func TestCrashAtAnyStepNeitherDoublesNorLosesBytes(t *testing.T) {
	t.Parallel()
	eachCrash(t, func(t *testing.T, call int) {
		spec, _ := crashed(t, call)
		base, size := mustAppend(t, spec)
		if base != int64(len(before)) || size != int64(len(piece)) {
			t.Errorf("stream is said to be %d bytes from %d", size, base)
		}
		wantContent(t, spec.Final(), before+piece)
		mustAppend(t, spec)
		wantContent(t, spec.Final(), before+piece)
		wantOnlyLog(t, spec)
	})
}

// wantOnlyLog allows journal.tmp, which the next append writes anew.
func wantOnlyLog(t *testing.T, spec Spec) {
	t.Helper()
	_ = os.Remove(filepath.Join(spec.Dir, spec.hidden("journal.tmp")))
	wantFiles(t, spec.Dir, ".log_error.log.last", "log_error.log")
}

// A power loss keeps of the unsynced tail what it likes: nothing, a part, or zeros.
func TestPowerLossBeforeTheLogIsSyncedNeitherDoublesNorLosesBytes(t *testing.T) {
	t.Parallel()
	for name, tail := range map[string]string{
		"nothing": "", "part": "the p", "zeros": "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "more": strings.Repeat("z", 9000),
	} {
		t.Run(name, func(t *testing.T) {
			spec, died := crashed(t, 5)
			if died != "sync log" {
				t.Fatalf("died before %q", died)
			}
			log, err := os.OpenFile(spec.Final(), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			if err := log.Truncate(int64(len(before))); err != nil {
				t.Fatal(err)
			}
			if _, err := log.WriteAt([]byte(tail), int64(len(before))); err != nil {
				t.Fatal(err)
			}
			mustAppend(t, spec)
			wantContent(t, spec.Final(), before+piece)
			wantOnlyLog(t, spec)
		})
	}
}

func TestCrashDuringRecoveryNeitherDoublesNorLosesBytes(t *testing.T) {
	t.Parallel()
	eachCrash(t, func(t *testing.T, call int) {
		for second := 0; ; second++ {
			spec, _ := crashed(t, call)
			died := crashAt(t, spec, second)
			mustAppend(t, spec)
			wantContent(t, spec.Final(), before+piece)
			if died == "" {
				return
			}
		}
	})
}

func TestAnotherJobAfterACrashNeitherDoublesNorLosesBytes(t *testing.T) {
	t.Parallel()
	eachCrash(t, func(t *testing.T, call int) {
		spec, died := crashed(t, call)
		next := spec.withTag("job2-1")
		receive(t, next, []byte("next\n"))
		mustAppend(t, next)
		if died == "sync commit" || died == "remove temp" { // committed: its temporary file is spent
			wantContent(t, spec.Final(), before+piece+"next\n")
			wantOnlyLog(t, spec)
			return
		}
		wantContent(t, spec.Final(), before+"next\n")
		mustAppend(t, spec)
		wantContent(t, spec.Final(), before+"next\n"+piece)
		wantOnlyLog(t, spec)
	})
}

func TestDiscardedStreamLeavesNoPartInTheLog(t *testing.T) {
	t.Parallel()
	spec, _ := crashed(t, 6)
	if err := Discard(spec); err != nil {
		t.Fatal(err)
	}
	if _, _, err := AppendLog(spec); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("AppendLog: %v", err)
	}
	wantContent(t, spec.Final(), before)
	wantOnlyLog(t, spec)
}

func TestLogRotatedDuringACrashIsNotCut(t *testing.T) {
	t.Parallel()
	rotations := map[string]struct {
		rotate func(log string) error
		want   string
	}{
		"renamed": {func(log string) error {
			return errors.Join(os.Rename(log, log+".1"), os.WriteFile(log, []byte("a longer new log\n"), 0o600))
		}, "a longer new log\n" + piece},
		"emptied": {func(log string) error { return os.Truncate(log, 0) }, piece},
		"removed": {os.Remove, piece},
	}
	for name, r := range rotations {
		t.Run(name, func(t *testing.T) {
			spec, _ := crashed(t, 6)
			if err := r.rotate(spec.Final()); err != nil {
				t.Fatal(err)
			}
			mustAppend(t, spec)
			wantContent(t, spec.Final(), r.want)
		})
	}
}

func TestDamagedJournalStopsInsteadOfGuessing(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"", "{", `{"tag":"../x","base":0}`, `{"tag":"a","base":-1}`} {
		spec, _ := crashed(t, 6)
		journal := filepath.Join(spec.Dir, spec.hidden("journal"))
		if err := os.WriteFile(journal, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := AppendLog(spec); err == nil || !strings.Contains(err.Error(), journal) {
			t.Errorf("journal %q: %v", content, err)
		}
		wantContent(t, spec.Final(), before+piece)
		wantContent(t, spec.Temp(), piece)
	}
}

func TestLogThatIsALinkIsNotFollowed(t *testing.T) {
	t.Parallel()
	spec := newSpec(t)
	receive(t, spec, []byte(piece))
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, spec.Final()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := AppendLog(spec); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("AppendLog: %v", err)
	}
	wantContent(t, outside, before)
}

func TestDiskFullDuringAppendLeavesTheLogAsItWas(t *testing.T) {
	t.Parallel()
	dir, mounted := smallDisk(t, 256<<10)
	spec := newSpec(t)
	spec.Dir = dir
	data := sample(100 << 10)
	receive(t, spec, data)
	if !mounted {
		// Without a disk of its own the log can still be one that takes no bytes.
		if err := os.Mkdir(spec.Final(), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, _, err := AppendLog(spec); !errors.Is(err, ErrWrite) {
			t.Fatalf("AppendLog: %v", err)
		}
		return
	}
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 60<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(spec.Final(), []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := AppendLog(spec)
	if !errors.Is(err, ErrWrite) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("AppendLog: %v", err)
	}
	wantContent(t, spec.Final(), before)
	wantFiles(t, dir, filepath.Base(spec.Temp()), "ballast", "log_error.log")

	if err := os.Remove(ballast); err != nil { // space is back
		t.Fatal(err)
	}
	mustAppend(t, spec)
	wantContent(t, spec.Final(), before+string(data))
}

func TestConcurrentAppendsToOneLogDoNotMix(t *testing.T) {
	t.Parallel()
	spec := newSpec(t)
	const streams, lines = 20, 500
	var wg sync.WaitGroup
	for i := range streams {
		next := spec.withTag(fmt.Sprintf("job%d-1", i))
		receive(t, next, bytes.Repeat(fmt.Appendf(nil, "stream %d\n", i), lines))
		for range 2 { // each twice at once
			wg.Go(func() {
				// The slower of the two finds its stream appended, by now perhaps not as the last one.
				if _, _, err := AppendLog(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	data, err := os.ReadFile(spec.Final())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	all := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	for at := 0; at < len(all); at += lines {
		for _, line := range all[at:min(at+lines, len(all))] {
			if line != all[at] {
				t.Fatalf("line %q among %q", line, all[at])
			}
		}
		seen[all[at]] = true
	}
	if len(all) != streams*lines || len(seen) != streams {
		t.Errorf("%d lines of %d streams, want %d of %d", len(all), len(seen), streams*lines, streams)
	}
}
