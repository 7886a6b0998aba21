package rolling

import (
	"fmt"
	"slices"
	"time"

	"drydock/job"
	"drydock/store"
)

// startOf is when a server began to run. Uptimes are whole seconds, so it may be a second off.
func startOf(f store.Facts) time.Time { return f.Time.Add(-time.Duration(f.Uptime) * time.Second) }

// restarted reports whether a server that answers as f was started after it was looked at before.
func restarted(before *job.Health, f store.Facts) bool {
	return f.Up && startOf(f).Sub(before.Started) > time.Second
}

// missing says what a server lacks to be as well as before, empty when it is. It is pure.
func missing(s job.Stage, all answers, maxLag time.Duration) string {
	f := all[s.Server]
	switch {
	case !f.Up:
		return "is not up: " + f.Err
	case !restarted(s.Before, f):
		return "has not been started anew"
	}
	for _, name := range s.Before.Channels {
		i := slices.IndexFunc(f.Sources, func(c store.Source) bool { return c.Name == name })
		if i < 0 && len(s.Before.Channels) == 1 && len(f.Sources) == 1 {
			i = 0 // a server that was made anew has one without the name
		}
		if i < 0 {
			return "does not replicate any more" + channel(name)
		}
		c := f.Sources[i]
		switch {
		case !runs(c):
			return fmt.Sprintf("does not replicate%s: IO %s, SQL %s %s", channel(name), c.IO, c.SQL, c.Err)
		case c.Lag == nil:
			return "cannot tell its lag" + channel(name)
		case maxLag > 0 && time.Duration(*c.Lag)*time.Second > maxLag:
			return fmt.Sprintf("lags %ds%s (maintenance-max-lag = %s)", *c.Lag, channel(name), maxLag)
		}
	}
	for _, r := range s.Before.Replicas {
		if !follows(all[r], s.Server) {
			return fmt.Sprintf("has not got its replica %s back", r)
		}
	}
	return ""
}

func channel(name string) string {
	if name == "" {
		return ""
	}
	return " on channel " + name
}
