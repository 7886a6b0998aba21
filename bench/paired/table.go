package paired

import (
	"fmt"
	"io"
	"slices"
)

// Table writes the outcomes as a Markdown table. Speeds are medians; "times" is the median of the ratios within one round,
// with the least and the greatest behind it. A ratio is one of speeds: above 1 is faster than the first side.
func (c Contest) Table(w io.Writer, outcomes []Outcome) {
	fmt.Fprintf(w, "\n### %s\n\n%d rounds.\n\n", c.Title, len(outcomes[0].Costs))
	fmt.Fprintf(w, "| side | %s/s | times the first | CPU s/%s | CPU, times the first |\n|---|---|---|---|---|\n", c.Unit, c.Unit)
	for _, o := range outcomes {
		speed, cpu := Ratios(o, outcomes[0])
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", o.Side, figure(o.median(Cost.speed)), spread(speed),
			figure(o.median(Cost.cpu)), spread(cpu))
	}
}

// Ratios are speed and CPU time of a side in those of another, round by round.
func Ratios(o, base Outcome) (speed, cpu []float64) {
	for i, c := range o.Costs {
		speed = append(speed, c.speed()/base.Costs[i].speed())
		cpu = append(cpu, c.cpu()/base.Costs[i].cpu())
	}
	return speed, cpu
}

func (c Cost) speed() float64 { return c.Amount / c.Wall.Seconds() }
func (c Cost) cpu() float64   { return c.CPU.Seconds() / c.Amount }

func (o Outcome) median(of func(Cost) float64) float64 {
	var all []float64
	for _, c := range o.Costs {
		all = append(all, of(c))
	}
	return Median(all)
}

// Median is the middle one of some figures, of an even number the mean of the two in the middle. There must be one.
func Median(figures []float64) float64 {
	s := slices.Sorted(slices.Values(figures))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func spread(ratios []float64) string {
	return fmt.Sprintf("**%.2f** (%.2f to %.2f)", Median(ratios), slices.Min(ratios), slices.Max(ratios))
}

// figure has three digits that count.
func figure(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	case v >= 0.001:
		return fmt.Sprintf("%.3f", v)
	}
	return fmt.Sprintf("%.2e", v)
}

// Wall is the median of the time that one unit took, in seconds.
func (o Outcome) Wall() float64 { return 1 / o.median(Cost.speed) }

// CPU is the median of the CPU time for one unit, in seconds.
func (o Outcome) CPU() float64 { return o.median(Cost.cpu) }
