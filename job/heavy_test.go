package job

import "testing"

func TestOneHeavyJobHasAServerForItself(t *testing.T) {
	t.Parallel()
	queued := func(id, reason string) Job { return Job{ID: id, State: Queued, Reason: reason} }
	for name, c := range map[string]struct {
		live  []Job
		first string
		busy  bool
	}{
		"nothing":                         {nil, "", false},
		"the oldest goes first":           {[]Job{queued("B", "due"), queued("A", "due")}, "A", false},
		"what was offered stays":          {[]Job{queued("A", ""), {ID: "B", State: Available}}, "B", true},
		"also while it is checked":        {[]Job{queued("A", ""), {ID: "B", State: Finished}}, "B", true},
		"a wait for a port lets pass":     {[]Job{queued("A", ReasonNoPort), queued("B", "")}, "B", false},
		"unless it is alone":              {[]Job{queued("A", ReasonNoPort)}, "A", false},
		"so does a database out of reach": {[]Job{queued("A", ReasonNoSQL+"dial"), queued("B", "")}, "B", false},
		"held ones keep their order":      {[]Job{queued("B", HeldReason+"x"), queued("A", HeldReason+"x")}, "A", false},
		"the whole cluster's, held elsewhere, lets pass": {
			[]Job{{ID: "A", Task: "checksum", State: Queued, Reason: HeldReason + "x"}, queued("B", "")}, "B", false},
		"also what waits for a port": {
			[]Job{{ID: "A", Task: "checksum", State: Queued, Reason: HeldReason + "x"}, queued("B", ReasonNoPort)}, "B", false},
		"the whole cluster's, not held": {[]Job{{ID: "A", Task: "checksum", State: Queued}, queued("B", "")}, "A", false},
		"running beats older, waiting":  {[]Job{queued("A", HeldReason), {ID: "C", State: Processing}}, "C", true},
		"claimed holds the server, too": {[]Job{queued("A", ""), {ID: "C", State: Claimed}}, "C", true},
	} {
		if first, busy := NextHeavy(c.live); first.ID != c.first || busy != c.busy {
			t.Errorf("%s: %q busy %v, want %q busy %v", name, first.ID, busy, c.first, c.busy)
		}
	}
}

func TestAStartWaitsOnlyForWhatHasTheServerDownOnPurpose(t *testing.T) {
	t.Parallel()
	start := Job{ID: "09", Task: "start", State: Queued}
	for _, c := range []struct {
		other Job
		first string
	}{
		{Job{ID: "01", Task: "mariabackup", State: Queued}, "09"},
		{Job{ID: "01", Task: "mariabackup", State: Available}, "09"},
		{Job{ID: "01", Task: "mariabackup", State: Processing}, "09"},
		{Job{ID: "01", Task: "optimize", State: Queued, Reason: ReasonNoRow + "refused"}, "09"},
		{Job{ID: "01", Task: "stop", State: Queued}, "09"},
		{Job{ID: "01", Task: "restart", State: Processing}, "01"},
		{Job{ID: "01", Task: "zfssnapback", State: Claimed}, "01"},
	} {
		live := []Job{c.other, start}
		if first, _ := NextHeavy(InTheWay(start, live)); first.ID != c.first {
			t.Errorf("%s %s: first is %s", c.other.State, c.other.Task, first.ID)
		}
		if c.other.State == Queued {
			if first, _ := NextHeavy(InTheWay(c.other, live)); first.ID != "09" {
				t.Errorf("%s goes before the start", c.other.Task)
			}
		}
	}
	waits := Job{ID: "01", Task: "mariabackup", State: Queued, Reason: ReasonNoRow + "refused"}
	if first, _ := NextHeavy([]Job{waits, {ID: "02", Task: "stop", State: Queued}}); first.ID != "02" {
		t.Error("a job without a database keeps a stop waiting")
	}
}
