package gateway_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/bus"
	"drydock/gateway/envelope"
	"drydock/internal/bustest"
	"drydock/job"
)

// shellLog builds the identity by hand as the shell client does: only `\` and `"` are escaped in log, and lines are joined
// with a literal \n (wire.md section 2).
func shellLog(s job.Server, members string, lines ...string) []byte {
	for i, l := range lines {
		lines[i] = strings.ReplaceAll(strings.ReplaceAll(l, `\`, `\\`), `"`, `\"`)
	}
	return cipher.Seal([]byte(`{"server":"` + s.String() + `",` + members + `"log":"` + strings.Join(lines, `\n`) + `"}`))
}

func TestLogLinesAreOnDiskBeforeTheAnswerAndByteForByte(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	sent := []string{
		"a\ttab, a \x1b[31mcolour\x1b[0m and a bell\a",
		`quotes " and ' and a \ and C:\new\table`,
		`{"json":"in a line"} , ] }`,
		"Grüße, 日本語, 🚢",
		"not UTF-8: \xff\xfe and cut \xc3",
		"  spaces kept  ",
	}
	want := slices.Clone(sent)
	want[4] = "not UTF-8: \uFFFD\uFFFD and cut \uFFFD"
	body := shellLog(db1, `"level":"INFO",`, slices.Clone(sent)...)
	r.want(r.call("POST", path("sql", db1, "/write-log/main"), "", body), 200, "true")
	var got []string
	for _, b := range r.batches() {
		got = append(got, b.Lines...)
		if b.Level != "INFO" || b.Task != "main" || b.Server != db1 || b.Cluster != "sql" || b.JobID != "" || b.Type != bus.TypeLog {
			t.Errorf("batch %+v", b)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("on disk:\n%q\nwant:\n%q", got, want)
	}
}

func TestOddBytesInAValidEnvelopeAreNeverRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for c := range 256 {
		if c == '"' || c == '\\' {
			continue
		}
		body := cipher.Seal([]byte(`{"server":"127.0.0.1:3306","log":"x` + string([]byte{byte(c)}) + `y"}`))
		if got := r.call("POST", path("sql", db1, "/write-log/main"), "", body); got.status != 200 {
			t.Errorf("byte %#x: %s", c, got)
		}
	}
}

func TestBatchIsCutIntoRunsOfOneLevel(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	body := shellLog(db1, `"level":"INFO",`, "one", "[ERROR] two", "[ERROR] three", "four", "[Warning] five")
	r.want(r.call("POST", path("sql", db1, "/write-log/optimize"), "", body), 200, "true")
	var got []string
	for _, b := range r.batches() {
		got = append(got, b.Level+" "+strings.Join(b.Lines, "|"))
	}
	want := []string{"INFO one", "ERROR [ERROR] two|[ERROR] three", "INFO four", "WARN [Warning] five"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLargestBatchFitsTheBusWholly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	// Near the limit of a body, each byte of it six bytes in JSON: far more than one message can carry.
	line := strings.Repeat("\x01\x02", 60_000)
	body := shellLog(db1, "", line, strings.Repeat("é\xff", 100_000), "end")
	r.want(r.call("POST", path("sql", db1, "/write-log/main"), "", body), 200, "true")
	var all string
	for _, b := range r.batches() {
		all += strings.Join(b.Lines, "")
	}
	if want := line + strings.Repeat("é\uFFFD", 100_000) + "end"; all != want {
		t.Errorf("%d bytes on disk, want %d", len(all), len(want))
	}
}

func TestRepeatedBatchWithNonceIsKeptOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	once := seal(db1, `"nonce":"abcd"`, `"log":"same"`)
	other := seal(db1, `"nonce":"abce"`, `"log":"same"`)
	for _, body := range [][]byte{once, once, other} {
		r.want(r.call("POST", path("sql", db1, "/write-log/main"), "", body), 200, "true")
	}
	if n := len(r.batches()); n != 2 {
		t.Errorf("%d batches on disk, want 2: the repeated one once, and another one with equal lines", n)
	}
}

func TestLogRouteTakesChannelsAndTheMisspeltTask(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, name := range append([]string{"flashbackmariadbackup", "reseedmariabackup"}, job.Channels...) {
		r.want(r.call("POST", path("sql", db1, "/write-log/"+name), "", seal(db1, `"log":"x"`)), 200, "true")
	}
	if b := r.batches(); b[0].Task != "flashbackmariabackup" {
		t.Errorf("the alias is filed under %s", b[0].Task)
	}
	r.want(r.call("POST", path("sql", db1, "/write-log/main"), "", seal(db1)), 200, "true") // no lines at all
	r.want(r.call("POST", path("api", db1, "/write-log/main"), r.token("api", db1), []byte(`{"log":"x"}`)), 401, "")
}

func TestNothingIsKeptForAnUnprovenCaller(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	body := envelope.New("guess").Seal([]byte(`{"server":"127.0.0.1:3306","log":"forged"}`))
	r.want(r.call("POST", path("sql", db1, "/write-log/main"), "", body), 401, "")
	r.want(r.call("POST", path("api", db1, "/write-log/main"), "", seal(db1, `"log":"x"`)), 401, "")
	if b := r.batches(); len(b) != 0 {
		t.Errorf("kept %+v", b)
	}
}

const endLine = "[00] 2026-11-22 10:00:00 completed OK!"

func TestEvidenceOfTheLinesReachesTheJobBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	j := r.offered("sql", db1, "mariabackup")
	r.apply(j.Key(), job.Start, nil)
	post := func(lines ...string) {
		t.Helper()
		body := shellLog(db1, `"level":"INFO","job":"`+j.ID+`","attempt":1,`, lines...)
		r.want(r.call("POST", path("sql", db1, "/write-log/mariabackup"), "", body), 200, "true")
	}
	post("Job mariabackup initiated. Starting")
	post("mariabackup based on MariaDB server 10.11.19-MariaDB debian-linux-gnu (x86_64)")
	post("[00] 2026-11-22 10:00:00 MySQL binlog position: filename 'mysql-bin.000012', position '1234', GTID of the last change '0-1-42'")
	post("[00] 2026-11-22 10:00:00 [ERROR] something is odd")
	before, seq := r.last(j.Key())
	if before.Evidence.Completed {
		t.Error("completed before the tool's own end line")
	}
	post(endLine)
	got, after := r.last(j.Key())
	e := got.Evidence
	if !e.Completed || e.BinlogFile != "mysql-bin.000012" || e.BinlogPos != 1234 || e.GTID != "0-1-42" || !strings.HasPrefix(e.Tool, "mariabackup 10.11.19") || len(e.Errors) != 1 {
		t.Errorf("evidence %+v", e)
	}
	if after == seq {
		t.Error("no event was written")
	}
	// The same again, and lines that prove nothing, are not worth an event.
	post(endLine)
	post("[00] 2026-11-22 10:00:00 [00] Copying ./mysql/user.frm")
	if _, again := r.last(j.Key()); again != after {
		t.Errorf("events were written for nothing: %d, then %d", after, again)
	}
	for _, b := range r.batches() {
		if b.JobID != j.ID || b.Attempt != 1 {
			t.Errorf("a batch is filed under job %q attempt %d", b.JobID, b.Attempt)
		}
	}
}

func TestEndLineOfAnEarlierAttemptIsNoProof(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	j := r.offered("sql", db1, "mariabackup")
	r.apply(j.Key(), job.Start, nil)
	r.apply(j.Key(), job.Cut, nil)
	r.apply(j.Key(), job.Retry, nil)
	r.apply(j.Key(), job.Offer, nil)
	r.apply(j.Key(), job.Start, nil)
	body := shellLog(db1, `"job":"`+j.ID+`","attempt":1,`, endLine)
	r.want(r.call("POST", path("sql", db1, "/write-log/mariabackup"), "", body), 200, "true")
	if now, _ := r.last(j.Key()); now.Evidence.Completed {
		t.Error("the second attempt is proven by the first one's line")
	}
	if b := r.batches(); len(b) != 1 || b[0].JobID != j.ID || b[0].Attempt != 1 {
		t.Errorf("the line itself is filed as %+v", b)
	}
}

func TestLinesOfOldClientsGoToTheJobAtWork(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	j := r.offered("sql", db1, "mariabackup")
	r.apply(j.Key(), job.Start, nil)
	token := r.token("sql", db1)
	r.want(r.call("POST", path("sql", db1, "/write-log/mariabackup"), token, shellLog(db1, "", endLine)), 200, "true")
	if now, _ := r.last(j.Key()); !now.Evidence.Completed {
		t.Error("no evidence")
	}
	// An offer that nobody took has no lines: these are somebody else's.
	o := r.offered("api", db1, "mariabackup")
	r.want(r.call("POST", path("api", db1, "/write-log/mariabackup"), r.token("api", db1), shellLog(db1, "", endLine)), 200, "true")
	if now, _ := r.last(o.Key()); now.Evidence.Completed {
		t.Error("a job that nobody took is proven")
	}
}

func TestLogBatchIsASignOfLifeAtMostOnceASecond(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	j := r.offered("sql", db1, "optimize")
	r.apply(j.Key(), job.Start, nil)
	var mu sync.Mutex
	var signs []bus.Progress
	sub, err := bus.Listen(r.conn, bus.AllProgress, func(p bus.Progress) {
		mu.Lock()
		defer mu.Unlock()
		signs = append(signs, p)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := r.conn.NC.Flush(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	for range 20 {
		r.want(r.call("POST", path("sql", db1, "/write-log/optimize"), "", seal(db1, `"log":"x"`)), 200, "true")
		r.want(r.call("POST", path("sql", db1, "/actions/heartbeat/optimize"), "", seal(db1, fmt.Sprintf(`"job":%q`, j.ID), `"attempt":1`)), 200, "ok")
	}
	most := 2 + 2*int(time.Since(begun)/time.Second)
	bustest.Until(t, 5*time.Second, "a sign of each kind", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.ContainsFunc(signs, func(p bus.Progress) bool { return p.Sign == bus.SignLog }) &&
			slices.ContainsFunc(signs, func(p bus.Progress) bool { return p.Sign == bus.SignHeartbeat })
	})
	mu.Lock()
	defer mu.Unlock()
	if len(signs) > most {
		t.Errorf("%d signs, at most %d wanted", len(signs), most)
	}
	for _, p := range signs {
		if p.JobID != j.ID || p.Attempt != 1 || p.Task != "optimize" || p.Server != db1 {
			data, _ := json.Marshal(p)
			t.Errorf("sign %s", data)
		}
	}
}

func TestLogLevelFollowsTheConfiguration(t *testing.T) {
	t.Parallel()
	r := newRig(t) // WARN
	for level, want := range map[string]bool{"DEBUG": false, "INFO": false, "WARN": true, "ERROR": true, "error": true} {
		for _, method := range []string{"GET", "POST"} {
			got := r.call(method, "/api/clusters/sql/jobs-log-level/optimize/"+level, "", nil)
			if want {
				r.want(got, 200, "true")
			} else {
				r.want(got, 500, "false")
			}
		}
	}
	// A backup whose end line was filtered out could never be proven.
	for _, task := range []string{"mariabackup", "xtrabackup"} {
		r.want(r.call("GET", "/api/clusters/sql/jobs-log-level/"+task+"/DEBUG", "", nil), 200, "true")
	}
	for _, name := range append([]string{"flashbackmariadbackup"}, job.Channels...) {
		r.want(r.call("GET", "/api/clusters/sql/jobs-log-level/"+name+"/ERROR", "", nil), 200, "true")
	}
}
