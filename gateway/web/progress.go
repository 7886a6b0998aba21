package web

import (
	"time"

	"drydock/job"
)

// progress is how far a job is, as far as one can tell.
type progress struct {
	Known   bool // Percent says something
	Percent float64
	Bytes   int64
	Rate    float64 // bytes per second
	ETA     time.Duration
	By      string // how ETA was estimated
	Over    bool   // it takes longer than nine in ten of its last runs
	Elapsed time.Duration
	forecast
}

// Tenths is the percentage times ten, for the bar.
func (p progress) Tenths() int { return int(p.Percent * 10) }

// progressOf puts the last sign of life and the last good runs together.
func (w *Web) progressOf(j job.Job, now time.Time) progress {
	expected := w.model.expected(j.Key())
	sign, _ := w.model.lastProgress(j.ID)
	if sign.Attempt != 0 && sign.Attempt != j.Attempt {
		sign.Bytes, sign.Rate, sign.Percent = 0, 0, 0
	}
	p := estimate(expected, j.Started(), now, max(sign.Bytes, streamed(j)), sign.Rate, sign.Percent)
	if j.State == job.Finished {
		p.ETA, p.By = 0, ""
	}
	return p
}

func streamed(j job.Job) int64 {
	if j.Stream == nil {
		return 0
	}
	return j.Stream.Bytes
}

// estimate says how far a run is. What the tool itself says wins; then the size that its last runs had; then how long they
// took. began is zero for a job that nobody works on yet.
func estimate(expected forecast, began, now time.Time, bytes int64, rate, percent float64) progress {
	p := progress{Bytes: bytes, Rate: rate, forecast: expected}
	if began.IsZero() {
		return p
	}
	p.Elapsed = now.Sub(began)
	p.Over = expected.P90 > 0 && p.Elapsed > expected.P90
	switch {
	case percent > 0:
		p.Known, p.Percent = true, min(percent, 100)
		p.ETA = time.Duration(float64(p.Elapsed) * (100 - p.Percent) / p.Percent)
		p.By = "by what the tool says"
	case expected.Size > 0 && bytes > 0:
		// Never full: the size of today is not known before the end.
		p.Known, p.Percent = true, min(100*float64(bytes)/float64(expected.Size), 99)
		if left := expected.Size - bytes; rate > 0 && left > 0 {
			p.ETA = time.Duration(float64(left) / rate * float64(time.Second))
			p.By = "by the size of the last runs and the present rate"
		}
	case expected.P50 > 0:
		p.Known, p.Percent = true, min(100*float64(p.Elapsed)/float64(expected.P50), 99)
		if left := expected.P50 - p.Elapsed; left > 0 {
			p.ETA, p.By = left, "by how long the last runs took"
		}
	}
	return p
}
