package retention

import (
	"fmt"
	"testing"
	"time"
)

const gib = 1 << 30

// daily are n daily backups, the last one at now.
func daily(now time.Time, n int, size func(day int) int64) (out []Stored) {
	for i := range n {
		out = append(out, Stored{Series: "s", Taken: now.Add(-time.Duration(n-1-i) * step), Bytes: size(i)})
	}
	return out
}

func TestForecast(t *testing.T) {
	t.Parallel()
	now := at("2026-11-25 01:00")
	same := func(int) int64 { return gib }
	none := func(string) *Rules { return nil }
	week := func(string) *Rules { return &Rules{Daily: 7} }
	for _, c := range []struct {
		name    string
		disk    Disk
		backups []Stored
		rules   func(string) *Rules
		want    string
	}{
		{"no room", Disk{Free: gib, Reserve: gib}, nil, none, "full now"},
		{"no backups", Disk{Free: gib}, nil, none, "not full within a year"},
		{"nothing is pruned", Disk{Free: 10*gib + 1}, daily(now, 30, same), none, "full in 11 days"},
		{"the reserve counts", Disk{Free: 11*gib + 1, Reserve: gib}, daily(now, 30, same), none, "full in 11 days"},
		{"tomorrow's does not fit", Disk{Free: gib / 2}, daily(now, 3, same), none, "full in 1 day"},
		{"pruned as fast as it comes", Disk{Free: 2 * gib}, daily(now, 7, same), week, "not full within a year"},
		{"the new one comes before the old one goes", Disk{Free: gib / 2}, daily(now, 7, same), week, "full in 1 day"},
		{"the rules are not full yet", Disk{Free: 3 * gib}, daily(now, 2, same), week, "full in 4 days"},
		{"it grows under rules that keep the number", Disk{Free: 8 * gib}, daily(now, 7, func(d int) int64 { return int64(d+1) * gib / 10 }), week, "full in 11 days"},
		{"it shrinks", Disk{Free: 400 * gib}, daily(now, 30, func(d int) int64 { return int64(40-d) * gib / 10 }), none, "full in 364 days"},
		{"it has stopped", Disk{Free: 1}, daily(now.Add(-6*step), 30, same), none, "not full within a year"},
		{"one backup is taken for daily", Disk{Free: 3 * gib}, daily(now, 1, same), none, "full in 4 days"},
	} {
		if got := Forecast(now, c.disk, c.backups, c.rules).String(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// Backups every minute are played as fewer and larger ones: a year of them is half a million.
func TestTheForecastOfFrequentBackupsIsQuickAndRight(t *testing.T) {
	t.Parallel()
	now := at("2026-11-25 01:00")
	var b []Stored
	for s := range 20 {
		for i := range 60 {
			b = append(b, Stored{Series: fmt.Sprint(s), Taken: now.Add(-time.Duration(i) * time.Minute), Bytes: 1 << 20})
		}
	}
	got := Forecast(now, Disk{Free: 20 * 1440 * 10 << 20}, b, func(string) *Rules { return nil })
	if days := got.In.Hours() / 24; !got.Full || days < 9 || days > 12 {
		t.Errorf("%v %v, want about ten days", got, days)
	}
}
