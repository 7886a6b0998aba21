package point

import (
	"testing"

	"drydock/job"
)

// Somebody copies the command out of the reason of a job, in a hurry. Without the confirmation it is refused.
func TestTheCommandThatAsksForTheFlashbackAgainIsWhole(t *testing.T) {
	t.Parallel()
	const want = "drydock restore apply 01KAQ8 --to-server db2:3306 --no-replication --confirm db2:3306"
	if got := again("01KAQ8", job.Server{Host: "db2", Port: 3306}); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
