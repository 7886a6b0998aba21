package main

import (
	"testing"
	"time"
)

// A point that is read wrongly brings back what was to be left out.
func TestAPointInTimeIsReadAsItIsMeant(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 26, 2, 41, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2026-11-26T02:41:00Z": at, "2026-11-26T03:41:00+01:00": at,
		"2026-11-26 02:41:00": time.Date(2026, 11, 26, 2, 41, 0, 0, time.Local), "2026-11-26 02:41": time.Date(2026, 11, 26, 2, 41, 0, 0, time.Local),
	} {
		if p, err := parsePoint(text); err != nil || p.GTID != "" || !p.Time.Equal(want) {
			t.Errorf("%q is %+v, %v", text, p, err)
		}
	}
	for _, text := range []string{"0-1-42", "0-1-42,1-1-7"} {
		if p, err := parsePoint(text); err != nil || p.GTID != text {
			t.Errorf("%q is %+v, %v", text, p, err)
		}
	}
	for _, text := range []string{"yesterday", "02:41", "2026-11-26", "26.11.2026 02:41", "0-1", "0-1-42,", "binlog.000001:4", "3e11fa47-71ca-11e1-9e33-c80aa9429562:23"} {
		if p, err := parsePoint(text); err == nil {
			t.Errorf("%q is %+v", text, p)
		}
	}
	if p, err := parsePoint(""); err != nil || p.Given() {
		t.Errorf("nothing is %+v, %v", p, err)
	}
}
