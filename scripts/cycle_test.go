package scripts

import (
	"slices"
	"testing"
	"time"
)

func TestIdleCycleIsOneCall(t *testing.T) {
	t.Parallel()
	for _, overTLS := range []bool{false, true} {
		m := newManager(t, oddPassword, 3306, overTLS)
		c := newClient(t, m)
		knowVariables(t, c, nil)
		c.mustCycle() // logs in
		before := view(m, func() int { return len(m.calls) })
		start := time.Now()
		c.mustCycle()
		t.Logf("TLS %v: %v", overTLS, time.Since(start))
		calls := view(m, func() []string { return m.calls[before:] })
		if !slices.Equal(calls, []string{"jobs-pending"}) {
			t.Errorf("calls %v", calls)
		}
	}
}
