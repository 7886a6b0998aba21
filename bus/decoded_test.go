package bus

import (
	"fmt"
	"testing"
)

// What a follower is given in place of a message it does not decode must be that message. Anybody who may publish can use an id again, and
// of thousands of messages only the last are worth their memory.
func TestAValueIsThatOfItsMessageOnly(t *testing.T) {
	t.Parallel()
	var d decoded
	d.keep("", []byte("{}"), 0)
	d.keep("a", []byte(`{"n":1}`), 1)
	for _, c := range []struct {
		id, data string
		want     any
	}{
		{"a", `{"n":1}`, 1}, {"a", `{"n":2}`, nil}, {"b", `{"n":1}`, nil}, {"b", "", nil}, {"", "{}", nil},
	} {
		if got := d.get(c.id, []byte(c.data)); got != c.want {
			t.Errorf("message %q with %s: %v, want %v", c.id, c.data, got, c.want)
		}
	}
	d.keep("a", []byte(`{"n":2}`), 2)
	for i := range decodedKept - 1 {
		d.keep(fmt.Sprint(i), nil, i)
	}
	if got := d.get("a", []byte(`{"n":2}`)); got != 2 || len(d.of) != decodedKept {
		t.Errorf("%v of %d messages", got, len(d.of))
	}
	d.keep("too large", make([]byte, decodedSize+1), 0)
	if got := d.get("too large", make([]byte, decodedSize+1)); got != nil {
		t.Error("a message that is too large for it is kept")
	}
	d.keep("one more", nil, 0)
	if got := d.get("a", []byte(`{"n":2}`)); got != nil || len(d.of) != decodedKept {
		t.Errorf("%v of %d messages", got, len(d.of))
	}
}

// A group must not take two messages of one subject, nor change the order of those that stay, and thousands that stand in line must not
// be looked at for each group.
func TestAGroupIsTakenFromTheFrontOfTheLine(t *testing.T) {
	t.Parallel()
	var w crowd
	stand := func(subject string, n int) { w.line = append(w.line, &appended{subject: subject, last: uint64(n)}) }
	const rivals, others = 3, 2 * batchMax
	for n := range rivals {
		stand("rival", n)
	}
	for n := range others {
		stand(fmt.Sprint("other", n), n)
	}
	for round, want := 0, others; len(w.line) > 0; round++ {
		group := w.take()
		seen := map[string]bool{}
		for _, a := range group {
			if seen[a.subject] {
				t.Fatalf("round %d: two of %s", round, a.subject)
			}
			seen[a.subject] = true
		}
		if round < rivals && (group[0].subject != "rival" || group[0].last != uint64(round)) {
			t.Errorf("round %d is led by %s %d", round, group[0].subject, group[0].last)
		}
		if round < 2 && len(group) != batchMax {
			t.Errorf("round %d: a group of %d", round, len(group))
		}
		for _, a := range group {
			if a.subject == "rival" {
				continue
			}
			if at := others - want; a.last != uint64(at) {
				t.Fatalf("round %d: other %d in the place of %d", round, a.last, at)
			}
			want--
		}
		if len(w.line) == 0 && want != 0 {
			t.Errorf("%d were left behind", want)
		}
	}
}
