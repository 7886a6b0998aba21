package alert

import (
	"testing"
	"time"

	"drydock/bus"
	"drydock/store"
)

// A gap that nobody sees is found at the restore; one that does not matter any more, or a blink, must not be shown.
func TestBinlogConditions(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	fine := &store.BinlogStatus{Time: ago(3 * time.Second), Until: ago(4 * time.Second)}
	gap := []store.Gap{{Found: ago(time.Hour), Since: ago(2 * time.Hour), Reason: "purged"}}
	tests := map[string]struct {
		off  bool
		b    Binlogs
		up   time.Duration
		want string // code
	}{
		"well":                    {false, Binlogs{Status: fine}, time.Hour, ""},
		"off":                     {true, Binlogs{}, time.Hour, ""},
		"a gap":                   {false, Binlogs{Status: fine, Gaps: gap, Base: ago(90 * time.Minute)}, time.Hour, "DOCK0211"},
		"a backup since":          {false, Binlogs{Status: fine, Gaps: gap, Base: ago(time.Minute)}, time.Hour, ""},
		"never":                   {false, Binlogs{}, time.Hour, "DOCK0212"},
		"never, just begun":       {false, Binlogs{}, time.Minute, ""},
		"silent":                  {false, Binlogs{Status: &store.BinlogStatus{Time: ago(10 * time.Minute)}}, time.Hour, "DOCK0212"},
		"fails":                   {false, Binlogs{Status: &store.BinlogStatus{Time: ago(time.Second), Err: "down", Since: ago(2 * time.Minute)}}, time.Hour, "DOCK0212"},
		"fails for a moment":      {false, Binlogs{Status: &store.BinlogStatus{Time: ago(time.Second), Err: "down", Since: ago(20 * time.Second)}}, time.Hour, ""},
		"behind":                  {false, Binlogs{Status: &store.BinlogStatus{Time: ago(time.Second), Until: ago(6 * time.Minute)}}, time.Hour, "DOCK0212"},
		"reads what is old first": {false, Binlogs{Status: &store.BinlogStatus{Time: ago(time.Second), Until: ago(time.Minute)}}, time.Hour, ""},
	}
	for name, tt := range tests {
		h := holding{Snapshot{Now: now, Up: ago(tt.up), Binlogs: map[string]Binlogs{"prod": tt.b}}, map[string]bus.Alert{}}
		h.binlogs(Cluster{Name: "prod", Binlogs: !tt.off})
		var got string
		for _, a := range h.found {
			got += a.Code
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
