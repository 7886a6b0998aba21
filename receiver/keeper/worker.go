package keeper

import (
	"context"
	"fmt"

	"drydock/job"
	"drydock/pruning"
	"drydock/receiver/duty"
)

// Worker does the job of a prune: whichever receiver is first has it, and asks all of them, itself too. The slot of a cluster
// holds one job, and no scheduler knows how many receivers there are.
type Worker struct {
	Clusters map[string]Cluster
	Desk     *pruning.Desk
}

// Tasks is part of [duty.Worker].
func (w Worker) Tasks() []string { return []string{pruning.Task} }

// Plan is part of [duty.Worker].
func (w Worker) Plan(_ context.Context, j job.Job) (duty.Deed, error) {
	if _, known := w.Clusters[j.Cluster]; !known {
		return nil, nil
	}
	return w.prune, nil
}

func (w Worker) prune(ctx context.Context, work *duty.Work) (duty.Result, error) {
	j := work.Job()
	r, err := w.Desk.Run(ctx, j.Cluster, j.ID, work.Say)
	for _, p := range r.Problems {
		work.Say("problem: " + p)
	}
	if err != nil {
		err = fmt.Errorf("prune the backups of cluster %s: %w", j.Cluster, err)
	}
	return duty.Result{Tool: "drydock", Text: r.String()}, err
}
