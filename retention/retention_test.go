package retention

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func at(text string) time.Time {
	t, err := time.Parse("2006-01-02 15:04", text)
	if err != nil {
		panic(err)
	}
	return t
}

// kept lists the ids that stay, newest first.
func kept(verdicts []Verdict) (ids []string) {
	for _, v := range verdicts {
		if v.Keep {
			ids = append(ids, v.ID)
		}
	}
	return ids
}

// today is after every backup of the tests that says nothing else.
var today = at("2027-12-31 00:00")

func taken(times ...string) (out []Backup) {
	for _, t := range times {
		out = append(out, Backup{ID: t, Group: "mariabackup", Taken: at(t)})
	}
	return out
}

func TestEachRuleKeepsTheNewestOfItsPeriods(t *testing.T) {
	t.Parallel()
	days := taken("2026-11-25 01:00", "2026-11-24 13:00", "2026-11-24 01:00", "2026-11-22 01:00", "2026-11-15 01:00",
		"2026-10-31 01:00", "2026-10-01 01:00", "2025-12-31 01:00", "2025-01-01 01:00")
	for _, c := range []struct {
		name  string
		rules Rules
		want  []string
	}{
		{"nothing is set", Rules{}, []string{"2026-11-25 01:00", "2026-11-24 13:00", "2026-11-24 01:00", "2026-11-22 01:00", "2026-11-15 01:00", "2026-10-31 01:00", "2026-10-01 01:00", "2025-12-31 01:00", "2025-01-01 01:00"}},
		{"last", Rules{Last: 2}, []string{"2026-11-25 01:00", "2026-11-24 13:00"}},
		{"hourly", Rules{Hourly: 3}, []string{"2026-11-25 01:00", "2026-11-24 13:00", "2026-11-24 01:00"}},
		{"a day without a backup does not count", Rules{Daily: 3}, []string{"2026-11-25 01:00", "2026-11-24 13:00", "2026-11-22 01:00"}},
		{"weeks are ISO weeks", Rules{Weekly: 2}, []string{"2026-11-25 01:00", "2026-11-22 01:00"}},
		{"monthly", Rules{Monthly: 3}, []string{"2026-11-25 01:00", "2026-10-31 01:00", "2025-12-31 01:00"}},
		{"yearly", Rules{Yearly: 9}, []string{"2026-11-25 01:00", "2025-12-31 01:00"}},
		{"rules add up", Rules{Last: 1, Yearly: 2}, []string{"2026-11-25 01:00", "2025-12-31 01:00"}},
	} {
		if got := kept(Judge(c.rules, days, today)); !slices.Equal(got, c.want) {
			t.Errorf("%s: kept %v, want %v", c.name, got, c.want)
		}
	}
}

func TestADayEndsWhereTheClusterIs(t *testing.T) {
	t.Parallel()
	tokyo := time.FixedZone("JST", 9*3600)
	b := taken("2026-11-24 16:00", "2026-11-24 14:00") // 01:00 on the 25th and 23:00 on the 24th in Tokyo
	if got := kept(Judge(Rules{Daily: 2, Zone: tokyo}, b, today)); len(got) != 2 {
		t.Errorf("in Tokyo they are of two days; kept %v", got)
	}
	if got := kept(Judge(Rules{Daily: 2}, b, today)); len(got) != 1 {
		t.Errorf("in UTC they are of one day; kept %v", got)
	}
}

func TestAnHourThatComesTwiceIsTwoHours(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	b := taken("2026-10-25 01:30", "2026-10-25 00:30") // 02:30 in winter time, 02:30 in summer time
	if got := kept(Judge(Rules{Hourly: 2, Zone: berlin}, b, today)); len(got) != 2 {
		t.Errorf("kept %v", got)
	}
}

func TestTheLastProofIsNeverGivenUp(t *testing.T) {
	t.Parallel()
	b := taken("2026-11-25 01:00", "2026-11-24 01:00", "2026-11-23 01:00", "2026-11-22 01:00")
	b[2].Restored, b[3].Restored = true, true
	if got := kept(Judge(Rules{Last: 1}, b, today)); !slices.Equal(got, []string{b[0].ID, b[2].ID}) {
		t.Errorf("kept %v, want the newest and the newest restored", got)
	}
	b[0].Restored = true
	if got := kept(Judge(Rules{Last: 1}, b, today)); !slices.Equal(got, []string{b[0].ID}) {
		t.Errorf("kept %v: the newest is restored itself", got)
	}
}

func TestPinnedBackupsTakeNobodysPlace(t *testing.T) {
	t.Parallel()
	b := taken("2026-11-25 01:00", "2026-11-24 01:00", "2026-11-23 01:00")
	b[2].Pinned = true
	if got := kept(Judge(Rules{Last: 1}, b, today)); !slices.Equal(got, []string{b[0].ID, b[2].ID}) {
		t.Errorf("kept %v", got)
	}
}

func TestToolsDoNotPushOutEachOthersBackups(t *testing.T) {
	t.Parallel()
	b := taken("2026-11-25 01:00", "2026-11-24 01:00", "2026-11-23 01:00", "2026-11-22 01:00")
	b[2].Group, b[3].Group = "mysqldump", "mysqldump"
	if got := kept(Judge(Rules{Last: 1}, b, today)); !slices.Equal(got, []string{b[0].ID, b[2].ID}) {
		t.Errorf("kept %v", got)
	}
}

func TestEveryVerdictSaysWhy(t *testing.T) {
	t.Parallel()
	b := taken("2026-11-25 01:00", "2026-11-24 01:00")
	v := Judge(Rules{Daily: 1, Weekly: 1}, b, today)
	if got := strings.Join(v[0].Why, ", "); got != "daily 1 of 1, weekly 1 of 1, newest" {
		t.Error(got)
	}
	if v[1].Keep || len(v[1].Why) == 0 {
		t.Errorf("%+v", v[1])
	}
}

// Whatever the rules and the order in which backups come in: what a rule of less keeps, one of more keeps too; every
// group keeps its newest; and the answer does not depend on the order.
func TestRetentionHoldsForAnyBackups(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var b []Backup
		for i := range 1 + rng.IntN(60) {
			b = append(b, Backup{
				ID: fmt.Sprintf("%03d", i), Group: []string{"a", "b"}[rng.IntN(2)], Restored: rng.IntN(4) == 0, Pinned: rng.IntN(9) == 0,
				Taken: at("2026-01-01 00:00").Add(time.Duration(rng.IntN(20000)) * time.Hour / 2),
			})
		}
		small := Rules{Last: rng.IntN(3), Hourly: rng.IntN(3), Daily: 1 + rng.IntN(5), Weekly: rng.IntN(5), Monthly: rng.IntN(5), Yearly: rng.IntN(2)}
		large := Rules{Last: small.Last + 1, Hourly: small.Hourly, Daily: small.Daily + 2, Weekly: small.Weekly, Monthly: small.Monthly + 1, Yearly: small.Yearly}
		few, many := kept(Judge(small, b, today)), kept(Judge(large, b, today))
		for _, id := range few {
			if !slices.Contains(many, id) {
				t.Fatalf("%+v keeps %s, %+v does not", small, id, large)
			}
		}
		newest := map[string]Backup{}
		for _, x := range b {
			if n, ok := newest[x.Group]; !ok || x.Taken.After(n.Taken) {
				newest[x.Group] = x
			}
			if (x.Pinned) && !slices.Contains(few, x.ID) {
				t.Fatalf("%s is pinned and goes", x.ID)
			}
		}
		for _, n := range newest {
			if !slices.ContainsFunc(b, func(x Backup) bool { return x.Group == n.Group && x.Taken.Equal(n.Taken) && slices.Contains(few, x.ID) }) {
				t.Fatalf("the newest of group %s goes", n.Group)
			}
		}
		rng.Shuffle(len(b), func(i, j int) { b[i], b[j] = b[j], b[i] })
		if again := kept(Judge(small, b, today)); !slices.Equal(few, again) {
			t.Fatalf("the order matters: %v, then %v", few, again)
		}
	}
}

func TestWhatIsDoubtfulTakesNoGoodBackupsPlace(t *testing.T) {
	t.Parallel()
	b := taken("2026-11-25 13:00", "2026-11-25 01:00", "2026-11-24 01:00", "2026-11-23 01:00")
	b[0].Doubtful = true
	b[2].Doubtful = true
	if got := kept(Judge(Rules{Daily: 2}, b, today)); !slices.Equal(got, []string{b[0].ID, b[1].ID, b[2].ID, b[3].ID}) {
		t.Errorf("kept %v: the doubtful by the rules, and two days of good ones", got)
	}
	for i := range b {
		b[i].Doubtful = true // as all are whose tablespaces the server encrypts
	}
	if got := kept(Judge(Rules{Daily: 2}, b, today)); !slices.Equal(got, []string{b[0].ID, b[2].ID}) {
		t.Errorf("kept %v: where all are doubtful the rules hold as ever", got)
	}
}

func TestEachReceiverKeepsTheLastOfItsOwn(t *testing.T) {
	t.Parallel()
	b := taken("2026-11-25 01:00", "2026-11-24 01:00", "2026-11-23 01:00", "2026-11-22 01:00")
	b[0].Holder, b[1].Holder, b[2].Holder, b[3].Holder = "a", "a", "b", "b"
	b[0].Restored, b[3].Restored = true, true
	if got := kept(Judge(Rules{Last: 1}, b, today)); !slices.Equal(got, []string{b[0].ID, b[2].ID, b[3].ID}) {
		t.Errorf("kept %v: the files of another receiver may be gone with its disk", got)
	}
}

func TestTheLastProofOfAServerCountsForEveryTool(t *testing.T) {
	t.Parallel()
	b := taken("2026-11-25 01:00", "2026-11-24 01:00", "2026-11-23 01:00")
	b[1].Group, b[2].Group, b[2].Restored = "mysqldump", "mysqldump", true
	if got := kept(Judge(Rules{Last: 1}, b, today)); len(got) != 3 {
		t.Errorf("kept %v", got)
	}
}

// A clock that was ahead for a night leaves a backup that looks newer than all that come after it.
func TestABackupFromTheFutureCostsNoProvenOne(t *testing.T) {
	t.Parallel()
	now := at("2026-11-25 12:00")
	b := taken("2031-01-01 01:00", "2026-11-25 01:00", "2026-11-24 01:00", "2026-11-23 01:00", "2026-11-22 01:00")
	b[0].Restored, b[2].Restored, b[4].Restored = true, true, true
	if got := kept(Judge(Rules{Last: 1}, b, now)); !slices.Equal(got, []string{b[0].ID, b[1].ID, b[2].ID, b[4].ID}) {
		t.Errorf("kept %v: all that is restored, and the newest that is not from the future", got)
	}
	b = taken("2026-11-25 12:30", "2026-11-24 01:00")
	if got := kept(Judge(Rules{Last: 1}, b, now)); !slices.Equal(got, []string{b[0].ID}) {
		t.Errorf("kept %v: half an hour is no wrong clock", got)
	}
}

func TestWhatIsHeldStaysAndSaysSo(t *testing.T) {
	t.Parallel()
	b := taken("2026-11-25 01:00", "2026-11-24 01:00")
	b[1].Held = []string{"job 1 needs it"}
	if v := Judge(Rules{Last: 1}, b, today)[1]; !v.Keep || !slices.Equal(v.Why, b[1].Held) {
		t.Errorf("%+v", v)
	}
}

func TestOldestKept(t *testing.T) {
	t.Parallel()
	b := taken("2026-11-25 01:00", "2026-11-24 01:00", "2026-11-23 01:00")
	b[1].Pinned = true
	if got, ok := OldestKept(b, Judge(Rules{Last: 1}, b, today)); !ok || got.ID != b[1].ID {
		t.Errorf("%+v, %v", got, ok)
	}
	if _, ok := OldestKept(nil, nil); ok {
		t.Error("the oldest of none")
	}
}
