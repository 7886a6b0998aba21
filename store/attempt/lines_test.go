package attempt

import (
	"strings"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
)

func TestMain(m *testing.M) { bustest.Main(m) }

// What a tool says may be no text at all, of which JSON makes six times as much: more than the bus takes in one message, and all of
// the lines in it would be lost.
func TestLinesThatAreNoTextAreKept(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	out := bus.NewBatcher(c, bus.StreamLogs)
	bustest.Run(t, out.Run)
	l := NewLines(out, bustest.Log(t), job.Job{
		ID: "J", Attempt: 1, Cluster: "c", Server: job.Server{Host: "h", Port: 1}, Task: "optimize", Created: time.Now(),
	})
	for range linesMax {
		l.Add(Info, strings.Repeat("\x01", lineMax))
	}
	l.Flush()
	kept := 0
	err := bus.Read(ctx, c, bus.StreamLogs, bus.AllLogs, bus.From{}, func(_ bus.Meta, b bus.LogBatch) error {
		kept += len(b.Lines)
		return nil
	})
	if err != nil || kept != linesMax {
		t.Errorf("%d of %d lines are kept: %v", kept, linesMax, err)
	}
}
