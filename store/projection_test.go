package store

import (
	"slices"
	"testing"

	"drydock/job"
)

// A projection that lags leaves states out. It must not leave out the end of a run, which the history of the slot is made of, nor write
// out of order: after a crash it goes on behind the newest that is written.
func TestAProjectionThatLagsLeavesOutWhatIsOvertakenOnly(t *testing.T) {
	t.Parallel()
	type step struct {
		slot, id string
	}
	for name, c := range map[string]struct {
		log  []step
		want []uint64 // of the log, from 1
	}{
		"nothing":                   {nil, nil},
		"one job":                   {[]step{{"a", "1"}, {"a", "1"}, {"a", "1"}}, []uint64{3}},
		"two slots, by turns":       {[]step{{"a", "1"}, {"b", "1"}, {"a", "1"}, {"b", "1"}}, []uint64{3, 4}},
		"the end of a run":          {[]step{{"a", "1"}, {"a", "1"}, {"b", "7"}, {"a", "2"}, {"a", "2"}}, []uint64{2, 3, 5}},
		"the same id in other slot": {[]step{{"a", "1"}, {"b", "1"}}, []uint64{1, 2}},
	} {
		var log []changed
		for i, s := range c.log {
			log = append(log, changed{job.Job{Cluster: s.slot, ID: s.id}, uint64(i + 1)})
		}
		var got []uint64
		for _, x := range newest(log) {
			got = append(got, x.seq)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
