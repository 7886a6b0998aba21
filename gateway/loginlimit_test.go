package gateway

import (
	"fmt"
	"testing"
	"time"
)

// TestGuessingPasswordsIsSlowedDown: per name and per address, and a right password is not kept out for long.
func TestGuessingPasswordsIsSlowedDown(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	var l logins
	for range failsUser {
		if l.open("dba", "10.0.0.9:1", now) > 0 {
			t.Fatal("refused too early")
		}
		l.failed("dba", "10.0.0.9:1", now)
	}
	if wait := l.open("dba", "10.0.0.7:99", now); wait != failWindow {
		t.Errorf("the same name from elsewhere waits %s", wait)
	}
	if wait := l.open("other", "10.0.0.9:2", now); wait != 0 {
		t.Errorf("another name waits %s", wait)
	}
	if wait := l.open("dba", "10.0.0.9:1", now.Add(failWindow)); wait != 0 {
		t.Errorf("after the window it still waits %s", wait)
	}
	for i := range failsAddress {
		l.failed(fmt.Sprint("guess", i), "10.0.0.9:3", now)
	}
	if l.open("new", "10.0.0.9:4", now) == 0 {
		t.Error("an address that tries many names is not slowed down")
	}
	if l.open("new", "10.0.0.8:4", now) != 0 {
		t.Error("another address is")
	}
	l.passed("dba")
	if l.open("dba", "10.0.0.7:1", now) != 0 {
		t.Error("a good login does not clear its name")
	}
}

// TestAFloodOfNamesDoesNotFillTheMemory: names are the stranger's choice.
func TestAFloodOfNamesDoesNotFillTheMemory(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	var l logins
	for i := range 3 * failsKept {
		l.failed(fmt.Sprint("n", i), fmt.Sprintf("10.%d.%d.%d:1", i>>16&255, i>>8&255, i&255), now)
		if len(l.seen) > failsKept+2 {
			t.Fatalf("%d entries", len(l.seen))
		}
	}
}
