package archive

import (
	"context"
	"fmt"
	"slices"
)

// turns lets a few backups, or one that needs the repository for itself, work on it at a time: what this process starts
// need not meet as locks.
type turns struct {
	places chan struct{} // an element per taken place
	alone  chan struct{} // one element while somebody wants all places
}

// atOnce is how many backups one process archives in one repository at a time; the others wait.
const atOnce = 2

func newTurns() *turns {
	return &turns{places: make(chan struct{}, atOnce), alone: make(chan struct{}, 1)}
}

// enter waits for a place, or for all of them; waiting is called when there is something to wait for. leave must be called
// unless there is an error.
func (t *turns) enter(ctx context.Context, all bool, waiting func()) (leave func(), err error) {
	taken := map[chan struct{}]int{}
	leave = func() {
		for from, n := range taken {
			for range n {
				<-from
			}
		}
	}
	want := []chan struct{}{t.places}
	if all {
		want = append([]chan struct{}{t.alone}, slices.Repeat(want, atOnce)...)
	}
	told := false
	for _, c := range want {
		select {
		case c <- struct{}{}:
			taken[c]++
			continue
		default:
		}
		if !told {
			told = true
			waiting()
		}
		select {
		case c <- struct{}{}:
			taken[c]++
		case <-ctx.Done():
			leave()
			return nil, fmt.Errorf("wait for the repository: %w", context.Cause(ctx))
		}
	}
	return leave, nil
}
