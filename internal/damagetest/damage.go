// Package damagetest harms data as disks, networks and killed tools do: cut at one byte, or one bit flipped. Where is chosen
// at random, from a seed that a failed test shows.
package damagetest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// Places is at how many random places each kind of damage is tried.
const Places = 20

// Rand is a source of its own for one test. The environment variable DRYDOCK_DAMAGE_SEED repeats a failed one.
func Rand(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("DRYDOCK_DAMAGE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("to repeat: DRYDOCK_DAMAGE_SEED=%d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

// Damaged is data with one harm done to it.
type Damaged struct {
	What string
	At   int // byte
	Data []byte
}

// Cut is data without what follows byte at.
func Cut(data []byte, at int) Damaged {
	return Damaged{fmt.Sprintf("cut at byte %d of %d", at, len(data)), at, data[:at]}
}

// Flip is a copy of data with one bit changed.
func Flip(data []byte, at int, bit uint) Damaged {
	bad := bytes.Clone(data)
	bad[at] ^= 1 << bit
	return Damaged{fmt.Sprintf("bit %d of byte %d of %d flipped", bit, at, len(data)), at, bad}
}

// Cuts are cuts at random places, at the special ones given, at none of the data and one byte short of all.
func Cuts(rnd *rand.Rand, data []byte, special ...int) (out []Damaged) {
	for range Places {
		special = append(special, rnd.IntN(len(data)))
	}
	for _, at := range append(special, 0, len(data)-1) {
		out = append(out, Cut(data, at))
	}
	return out
}

// Flips are single bits flipped at random places.
func Flips(rnd *rand.Rand, data []byte) (out []Damaged) {
	for range Places {
		out = append(out, Flip(data, rnd.IntN(len(data)), uint(rnd.IntN(8))))
	}
	return out
}
