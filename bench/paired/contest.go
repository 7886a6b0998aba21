// Package paired compares ways of doing the same work: sides that take turns within one run, so that what else the machine
// does falls on all of them alike. What it reports are medians, and ratios within one round; never a single time.
//
// It owns rounds, sums and tables, and the cost of a process. What a side does is its caller's business.
package paired

import (
	"context"
	"fmt"
	"time"
)

// Cost is what one turn of a side took.
type Cost struct {
	Wall   time.Duration
	CPU    time.Duration // user and system time of the side's own processes, not of who feeds them
	Amount float64       // how much work that was, in the contest's unit
}

// Side is one way of doing the work.
type Side struct {
	Name string
	Run  func(context.Context) (Cost, error)
}

// Contest is the sides of one comparison. The first side is what the others are compared with.
type Contest struct {
	Title string
	Unit  string // of Cost.Amount: "GiB", "batch", "cycle"
	Sides []Side
}

// Outcome is what the turns of one side took, by round.
type Outcome struct {
	Side  string
	Costs []Cost
}

// Run lets every side take its turn, in each of the rounds, each round beginning with another side. No round begins that
// would not end within the bound if it took as long as the one before; the first always does. Errors: of a side, with its
// name.
func (c Contest) Run(ctx context.Context, rounds int, bound time.Duration) ([]Outcome, error) {
	out := make([]Outcome, len(c.Sides))
	for i, s := range c.Sides {
		out[i].Side = s.Name
	}
	begun, took := time.Now(), time.Duration(0)
	for round := range rounds {
		began := time.Since(begun)
		if round > 0 && began+took > bound {
			break
		}
		for i := range c.Sides {
			turn := (i + round) % len(c.Sides)
			cost, err := c.Sides[turn].Run(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", c.Title, c.Sides[turn].Name, err)
			}
			out[turn].Costs = append(out[turn].Costs, cost)
		}
		took = time.Since(begun) - began
	}
	return out, nil
}
