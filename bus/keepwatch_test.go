package bus

import (
	"context"
	"errors"
	"testing"
	"time"
)

// A view that stands still on a connection that works leaves jobs queued for as long as it does.
func TestAFollowerThatStandsStillIsGivenUp(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	for name, c := range map[string]struct {
		moves, nothing bool
		err            error
		givenUp        bool
	}{
		"quiet, and nothing is there":  {false, true, nil, false},
		"quiet, and there is more":     {false, false, nil, true},
		"quiet, and nobody answers":    {false, false, gone, true},
		"it moves, and there is more":  {true, false, nil, false},
		"it moves, and nobody answers": {true, false, gone, false},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		asked := 0
		err := keepWatch(ctx, time.Millisecond, func() handled {
			if !c.moves {
				return handled{}
			}
			return handled{"c", uint64(asked)}
		}, func(handled) (bool, error) {
			if asked++; asked == 20 {
				cancel()
			}
			return c.nothing, c.err
		})
		cancel()
		if (err != nil) != c.givenUp || c.givenUp && asked != 3 || c.err != nil && c.givenUp && !errors.Is(err, gone) {
			t.Errorf("%s: given up after %d questions: %v", name, asked, err)
		}
	}
}
