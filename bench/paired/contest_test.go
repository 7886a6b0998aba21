package paired

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

// A side that always came first would always have the colder, or the warmer, machine.
func TestSidesTakeTurnsAndEachRoundBeginsWithAnother(t *testing.T) {
	t.Parallel()
	var order []string
	side := func(name string, wall time.Duration) Side {
		return Side{name, func(context.Context) (Cost, error) {
			order = append(order, name)
			return Cost{Wall: wall, CPU: wall, Amount: 1}, nil
		}}
	}
	c := Contest{Title: "t", Unit: "run", Sides: []Side{side("slow", 4*time.Second), side("fast", time.Second)}}
	got, err := c.Run(t.Context(), 3, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if want := "slow fast fast slow slow fast"; strings.Join(order, " ") != want {
		t.Errorf("order %v, want %s", order, want)
	}
	var text strings.Builder
	c.Table(&text, got)
	if want := "| fast | 1.00 | **4.00** (4.00 to 4.00) | 1.00 | **0.25** (0.25 to 0.25) |"; !strings.Contains(text.String(), want) {
		t.Errorf("no %s in:%s", want, &text)
	}
	order = nil
	if got, err = c.Run(t.Context(), 3, 0); err != nil || len(got[0].Costs) != 1 || len(order) != 2 {
		t.Errorf("after the bound: %v, %v, %v", got, order, err)
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		of   []float64
		want float64
	}{{[]float64{7}, 7}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 9, 2}, 3}} {
		in := slices.Clone(tt.of)
		if got := Median(tt.of); got != tt.want || !slices.Equal(in, tt.of) {
			t.Errorf("Median(%v) = %v", in, got)
		}
	}
}
