package gateway

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
)

func TestOnlyFailuresCountAndAreForgiven(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	l := newLimiter(func() time.Time { return now })
	c := counter{"a", allowance{3, 10 * time.Second}}
	for range 100 { // a fleet that logs in
		if l.take(c) > 0 {
			t.Fatal("successes count")
		}
		l.giveBack(c)
	}
	for range 3 {
		if l.take(c) > 0 {
			t.Fatal("refused before the allowance is used up")
		}
	}
	if wait := l.take(c); wait != 10*time.Second {
		t.Errorf("wait %s", wait)
	}
	if l.take(c, counter{"b", allowance{1, time.Hour}}) == 0 || l.take(counter{"b", allowance{1, time.Hour}}) > 0 {
		t.Error("a refused try took something off another counter")
	}
	now = now.Add(10 * time.Second)
	if l.take(c) > 0 || l.take(c) == 0 {
		t.Error("ten seconds forgive one failure")
	}
	now = now.Add(24 * time.Hour)
	for range 3 {
		if l.take(c) > 0 {
			t.Error("a day does not forgive all")
		}
	}
	if l.take(c) == 0 {
		t.Error("a day gives more than the allowance")
	}
}

// A flood from changing addresses and of made-up names must not take the memory.
func TestALimiterForgetsRatherThanGrows(t *testing.T) {
	t.Parallel()
	l := newLimiter(time.Now)
	for i := range 5 * limitEntries {
		l.take(counter{fmt.Sprint(i), allowance{10, time.Hour}})
		l.cameIn(fmt.Sprint(i))
	}
	if n := len(l.cur) + len(l.old); n > 2*limitEntries {
		t.Errorf("%d counters", n)
	}
	if n := len(l.in) + len(l.inOld); n > 2*limitEntries {
		t.Errorf("%d pairs", n)
	}
	if !l.known(fmt.Sprint(5*limitEntries-1)) || l.known("0") {
		t.Error("it forgets the newest first")
	}
}

// What is typed for a name may be as long as a body: 20,000 counters of that would be 20 GB.
func TestALongNameTakesNoRoom(t *testing.T) {
	t.Parallel()
	g := &Gateway{tries: newLimiter(time.Now)}
	c, _ := gin.CreateTestContext(httptest.NewRecorder())
	c.Request = httptest.NewRequest(http.MethodPost, "/api/login", nil)
	for _, end := range []string{"a", "b"} {
		failed, ok := g.tryUser(c, strings.Repeat("x", maxBody/2)+end)
		if !ok {
			t.Fatal("a first try is refused")
		}
		g.tries.cameIn(failed.pair)
	}
	size, counters := 0, 0
	for key := range g.tries.cur {
		size, counters = size+len(key), counters+1
	}
	for pair := range g.tries.in {
		size += len(pair)
	}
	if counters != 3 || len(g.tries.in) != 2 || size > 1000 {
		t.Errorf("%d counters and %d pairs of %d bytes; one address and two names were seen", counters, len(g.tries.in), size)
	}
}

func TestAHostsIPv6AddressesAreOneCaller(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"10.0.1.5:1":               "10.0.1.5",
		"[::ffff:10.0.1.5]:1":      "10.0.1.5",
		"[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1":         "fe80::/64",
	} {
		if got := callerAddress(&http.Request{RemoteAddr: addr}); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}
