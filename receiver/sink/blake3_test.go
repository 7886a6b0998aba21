package sink

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"

	"lukechampine.com/blake3"
)

// Every number of groups around a carry of the tree, every position inside a group that matters.
func TestTreeHashIsBLAKE3ForEveryShapeOfTree(t *testing.T) {
	t.Parallel()
	data := sample(40*groupSize + 5000)
	rnd := rand.New(rand.NewPCG(3, 3))
	for groups := range 40 {
		for _, extra := range []int{0, 1, 63, 64, 65, 1023, 1024, 1025, 2048, 3000, groupSize - 1} {
			size := min(groups*groupSize+extra, len(data))
			var whole, pieces treeHash
			_, _ = whole.Write(data[:size])
			for left := data[:size]; len(left) > 0; {
				n := min(1+rnd.IntN(3*groupSize), len(left))
				_, _ = pieces.Write(left[:n])
				left = left[n:]
				_ = pieces.Sum(nil) // must not disturb what follows
			}
			want := fmt.Sprintf("%x", blake3.Sum256(data[:size]))
			if got := hex.EncodeToString(whole.Sum(nil)); got != want {
				t.Fatalf("%d bytes at once: %s, want %s", size, got, want)
			}
			if got := hex.EncodeToString(pieces.Sum(nil)); got != want {
				t.Fatalf("%d bytes in pieces: %s, want %s", size, got, want)
			}
		}
	}
}
