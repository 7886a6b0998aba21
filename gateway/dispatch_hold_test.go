package gateway

import (
	"testing"

	"drydock/job"
)

func TestOneHeavyJobHasAServerForItself(t *testing.T) {
	t.Parallel()
	queued := func(id, reason string) job.Job { return job.Job{ID: id, State: job.Queued, Reason: reason} }
	for name, c := range map[string]struct {
		live  []job.Job
		first string
		busy  bool
	}{
		"nothing":                       {nil, "", false},
		"the oldest goes first":         {[]job.Job{queued("B", "due"), queued("A", "due")}, "A", false},
		"what was offered stays":        {[]job.Job{queued("A", ""), {ID: "B", State: job.Available}}, "B", true},
		"also while it is checked":      {[]job.Job{queued("A", ""), {ID: "B", State: job.Finished}}, "B", true},
		"a wait for a port lets pass":   {[]job.Job{queued("A", reasonNoPort), queued("B", "")}, "B", false},
		"unless it is alone":            {[]job.Job{queued("A", reasonNoPort)}, "A", false},
		"held ones keep their order":    {[]job.Job{queued("B", job.HeldReason+"x"), queued("A", job.HeldReason+"x")}, "A", false},
		"running beats older, waiting":  {[]job.Job{queued("A", job.HeldReason), {ID: "C", State: job.Processing}}, "C", true},
		"claimed holds the server, too": {[]job.Job{queued("A", ""), {ID: "C", State: job.Claimed}}, "C", true},
	} {
		if first, busy := nextHeavy(c.live); first.ID != c.first || busy != c.busy {
			t.Errorf("%s: %q busy %v, want %q busy %v", name, first.ID, busy, c.first, c.busy)
		}
	}
}
