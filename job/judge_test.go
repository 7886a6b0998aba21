package job

import (
	"strings"
	"testing"
	"time"
)

func good() Job {
	n := int64(100)
	return Job{
		State:    Finished,
		Stream:   &Stream{Opened: time.Now(), Complete: true, Bytes: 100, Algo: "blake3", Hash: "aa"},
		Evidence: Evidence{Completed: true, Sent: &n, Exit: []int{0, 0}},
	}
}

func TestBackupPassesOnlyWithEveryProof(t *testing.T) {
	t.Parallel()
	backup, _ := TaskByName("mariabackup")
	if v := Judge(backup, good(), false); v.Event != Pass {
		t.Fatalf("a proven backup is %+v", v)
	}
	for name, c := range map[string]struct {
		harm   func(*Job)
		now    Event // verdict while stragglers may come
		late   Event
		reason string
	}{
		"no stream":         {func(j *Job) { j.Stream = nil }, "", Refute, "no stream came"},
		"stream still open": {func(j *Job) { j.Stream.Complete = false }, "", Refute, "not ended"},
		"write error":       {func(j *Job) { j.Stream.Err = "no space left" }, Refute, Refute, "no space left"},
		"empty":             {func(j *Job) { j.Stream.Bytes = 0; j.Evidence.Sent = nil }, Refute, Refute, "empty"},
		"bytes lost":        {func(j *Job) { j.Stream.Bytes = 99 }, Refute, Refute, "sent 100, received 99"},
		"no end line":       {func(j *Job) { j.Evidence.Completed = false }, "", Refute, "completed OK!"},
		"tool failed":       {func(j *Job) { j.Evidence.Exit = []int{1, 0} }, Refute, Refute, "[1 0]"},
		"socat failed":      {func(j *Job) { j.Evidence.Exit = []int{0, 1} }, Refute, Refute, "[0 1]"},
		"a file twice":      {func(j *Job) { j.Stream.Format, j.Stream.Broken = "file stands in the stream twice", true }, Refute, Refute, "twice"},
		"hash differs":      {func(j *Job) { j.Stream.Algo = "sha256"; j.Evidence.SentSHA256 = "bb" }, Refute, Refute, "hash"},
	} {
		j := good()
		c.harm(&j)
		if v := Judge(backup, j, false); v.Event != c.now {
			t.Errorf("%s: verdict %q (%s), want %q", name, v.Event, v.Reason, c.now)
		}
		v := Judge(backup, j, true)
		if v.Event != c.late || !strings.Contains(v.Reason, c.reason) {
			t.Errorf("%s, late: verdict %q (%s), want %q naming %q", name, v.Event, v.Reason, c.late, c.reason)
		}
	}
}

func TestEmptyStreamIsSuccessForALogAndNotForABackup(t *testing.T) {
	t.Parallel()
	logTask, _ := TaskByName("errorlog")
	j := Job{State: Finished, Stream: &Stream{Opened: time.Now(), Complete: true}}
	if v := Judge(logTask, j, false); v.Event != Pass {
		t.Errorf("nothing new in a log is %+v", v)
	}
	j.Stream = nil
	if v := Judge(logTask, j, true); v.Event != Refute {
		t.Errorf("a log task that never connected is %+v", v)
	}
}

func TestTaskWithoutStreamPassesOnItsExit(t *testing.T) {
	t.Parallel()
	optimize, _ := TaskByName("optimize")
	if v := Judge(optimize, Job{State: Finished}, false); v.Event != Pass {
		t.Errorf("done without exit list: %+v", v)
	}
	if v := Judge(optimize, Job{State: Finished, Evidence: Evidence{Exit: []int{2}}}, false); v.Event != Refute {
		t.Errorf("done with exit 2: %+v", v)
	}
}

func TestDumpPassesOnlyWithTheToolsEndInItsStream(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"mysqldump", "mydumper"} {
		dump, _ := TaskByName(name)
		j := good()
		j.Evidence.Completed, j.Stream.Format = false, FormatGood // its log has no end line
		if v := Judge(dump, j, false); v.Event != Pass {
			t.Errorf("a proven %s is %+v", name, v)
		}
		for what, harm := range map[string]func(*Job){
			"truncated":            func(j *Job) { j.Stream.Format, j.Stream.Broken = "dump is truncated", true },
			"nobody looked for":    func(j *Job) { j.Stream.Format = "" },
			"only partly seen":     func(j *Job) { j.Stream.Format = "only partly seen" },
			"[2]":                  func(j *Job) { j.Evidence.Exit = []int{2} },
			"sent 100, received 9": func(j *Job) { j.Stream.Bytes = 9 },
			"empty stream":         func(j *Job) { j.Stream.Bytes, j.Evidence.Sent = 0, nil },
		} {
			j := j
			stream := *j.Stream
			j.Stream, j.Evidence.Completed = &stream, true
			harm(&j)
			if v := Judge(dump, j, false); v.Event != Refute || !strings.Contains(v.Reason, what) {
				t.Errorf("%s, %s: %q (%s)", name, what, v.Event, v.Reason)
			}
		}
	}
}

func TestARestorePassesOnlyWhenTheWholeBackupWentOut(t *testing.T) {
	t.Parallel()
	restore, _ := TaskByName("reseedmariabackup")
	sent := func() Job {
		n := int64(100)
		return Job{
			State:    Finished,
			Stream:   &Stream{Opened: time.Now(), Complete: true, Bytes: 100, Algo: "sha256", Hash: "aa"},
			Evidence: Evidence{Sent: &n, SentSHA256: "AA", Exit: []int{0}},
		}
	}
	if v := Judge(restore, sent(), false); v.Event != Pass {
		t.Fatalf("a proven restore is %+v", v)
	}
	for name, c := range map[string]struct {
		harm   func(*Job)
		now    Event
		reason string
	}{
		"nothing sent":        {func(j *Job) { j.Stream = nil }, "", "nothing was sent"},
		"not sent to its end": {func(j *Job) { j.Stream.Complete = false }, "", "not sent to its end"},
		"file damaged":        {func(j *Job) { j.Stream.Complete, j.Stream.Err = false, "file is damaged" }, Refute, "file is damaged"},
		"bytes lost":          {func(j *Job) { j.Stream.Bytes = 101 }, Refute, "sent 101, received 100"},
		"hash differs":        {func(j *Job) { j.Evidence.SentSHA256 = "bb" }, Refute, "hash"},
	} {
		j := sent()
		c.harm(&j)
		if v := Judge(restore, j, false); v.Event != c.now {
			t.Errorf("%s: verdict %q (%s), want %q", name, v.Event, v.Reason, c.now)
		}
		if v := Judge(restore, j, true); v.Event != Refute || !strings.Contains(v.Reason, c.reason) {
			t.Errorf("%s, late: verdict %q (%s)", name, v.Event, v.Reason)
		}
	}
}

func TestABackupMuchSmallerThanThoseBeforeItIsNotBelieved(t *testing.T) {
	t.Parallel()
	backup, _ := TaskByName("mariabackup")
	proven := Judge(backup, good(), false)
	for name, c := range map[string]struct {
		bounds Bounds
		size   int64
		reason string // empty: it passes
	}{
		"nothing is asked":   {Bounds{}, 1, ""},
		"the first one":      {Bounds{Ratio: 0.5}, 1, ""},
		"as large as wanted": {Bounds{Min: 100, Ratio: 0.5, Median: 200}, 100, ""},
		"below the minimum":  {Bounds{Min: 101}, 100, "backup-min-size = 101"},
		"below the ratio":    {Bounds{Ratio: 0.5, Median: 202}, 100, "0.5 of the median of the last good ones, 202"},
		"20 bytes of 8 MB":   {Bounds{Ratio: 0.25, Median: 8 << 20}, 20, "backup-min-size-ratio"},
	} {
		v := proven.Within(c.bounds, c.size)
		j := Job{State: Failed, Reason: v.Reason}
		if pass := v.Event == Pass; pass != (c.reason == "") || !strings.Contains(v.Reason, c.reason) || j.TooSmall() == pass {
			t.Errorf("%s: %q (%s)", name, v.Event, v.Reason)
		}
		if last := v.Checks[len(v.Checks)-1]; last.Name != "size bounds" || last.Held != (c.reason == "") {
			t.Errorf("%s: the manifest would say %+v", name, last)
		}
	}
	if (Job{State: Failed, Reason: "bytes: sent 1, received 2"}).TooSmall() {
		t.Error("another failure counts as too small")
	}
}

func TestMedianIsOneOfTheSizes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sizes []int64
		want  int64
	}{{nil, 0}, {[]int64{5}, 5}, {[]int64{9, 1}, 1}, {[]int64{9, 1, 5}, 5}, {[]int64{1 << 60, 2, 3, 4}, 3}} {
		if got := Median(c.sizes); got != c.want {
			t.Errorf("median of %v is %d, want %d", c.sizes, got, c.want)
		}
	}
}
