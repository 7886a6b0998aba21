package jobtable

import (
	"strings"
	"testing"

	"drydock/job"
)

// anyRow is a row as the database gives it: other programs write that table, too.
type anyRow struct {
	id                int64
	task, server      string
	port, state, size int
	done              bool
	payload           string
	start, end        float64
}

func (r anyRow) Scan(to ...any) error {
	*to[0].(*int64), *to[1].(*string), *to[2].(*string), *to[3].(*int), *to[4].(*bool) = r.id, r.task, r.server, r.port, r.done
	*to[5].(*int), *to[6].(*string), *to[7].(*int), *to[8].(*float64), *to[9].(*float64) = r.state, r.payload, r.size, r.start, r.end
	return nil
}

// FuzzRow reads rows with whatever may stand in them. A row must never become one of drydock's that is none, nor the row of
// another run, and what drydock writes must be found again.
func FuzzRow(f *testing.F) {
	id := "01M8B5W17AXSKZX2BHHJDCGVYN"
	for _, p := range []string{
		"", "{}", "null", `{"drydock":1,"job":"` + id + `","attempt":1}`, `{"drydock":1,"job":"` + id + `","attempt":2,"args":"a=b"}`,
		`{"drydock":0,"job":"x"}`, `{"drydock":1}`, `{"drydock":"1"}`, `{"DRYDOCK":1,"Job":"x"}`, `{"drydock":1,"job":"x","attempt":1e99}`, strings.Repeat("[", 20000),
	} {
		f.Add(p, "optimize", 0, false, 1_790_000_000.5, "a=b")
	}
	f.Add("", "", -1, true, -1e300, "\x00")
	f.Fuzz(func(t *testing.T, text, task string, state int, done bool, at float64, args string) {
		r, err := scan(anyRow{id: 7, task: task, server: "h", port: 1, state: state, done: done, payload: text, size: len(text), start: at, end: at})
		if err != nil {
			t.Fatal(err)
		}
		if r.Run != (Run{}) && !strings.Contains(strings.ToLower(text), "drydock") {
			t.Fatalf("%q is of run %s", text, r.Run)
		}
		if r.Live() && (done || state < 0 || state > job.CodeWaiting) {
			t.Fatalf("a live row in state %d, done %v", state, done)
		}
		if r.String() == "" {
			t.Fatal("a row says nothing")
		}
		own := Run{Job: id, Attempt: max(1, state)}
		if got := parsePayload(own.payload(args)); got != own {
			t.Fatalf("%s with arguments %q is read as %s", own, args, got)
		}
		pattern := own.where(task)[2].(string)
		if prefix := strings.TrimSuffix(pattern, "%"); args != "" && !strings.HasPrefix(own.payload(args), prefix) {
			t.Fatalf("%s is not found by %q", own.payload(args), pattern)
		}
	})
}
