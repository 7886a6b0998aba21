package notify

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"drydock/bus"
	"drydock/calendar"
)

// Config is what a notifier works from.
type Config struct {
	Actor        string // as whom it writes, "alert@NAME"; no other process may be called so
	Log          *slog.Logger
	Destinations []Destination
	GroupWait    time.Duration // alert-group-wait
	Repeat       time.Duration // alert-repeat, 0 = never
	// Sender is a program, with arguments, that does what [SendMain] does: drydock itself.
	Sender         []string
	HeartbeatURL   string // a secret; empty: none
	HeartbeatEvery time.Duration
	Clusters       []Cluster
}

// Destination is one place to notify. Either URL or Program is set.
type Destination struct {
	Name    string
	URL     string        // of a service, as shoutrrr spells it; a secret
	Program string        // alert-script
	Timeout time.Duration // of one try
	Routes  []Route       // none: warn and error of every cluster
	// Unrouted: it is told nothing, only tested.
	Unrouted bool
}

// Route is what a destination gets.
type Route struct {
	Severity bus.Severity // at least
	Clusters []string     // none: every cluster
}

// Cluster is what concerns one cluster.
type Cluster struct {
	Name    string
	PingURL string // alert-ping-url; a secret, empty: none
	// Quiet times begin by QuietCron (empty: never) in Zone, as schedules do (package calendar), and last QuietFor.
	QuietCron string
	QuietFor  time.Duration
	Zone      *time.Location
}

// wants reports whether the destination gets a condition. What concerns no cluster goes to whoever wants the severity: it
// says that somebody else is not told.
func (d Destination) wants(a bus.Alert) bool {
	routes := d.Routes
	if d.Unrouted {
		return false
	}
	if len(routes) == 0 {
		routes = []Route{{Severity: bus.SeverityWarn}}
	}
	return slices.ContainsFunc(routes, func(r Route) bool {
		return weight(a.Severity) >= weight(r.Severity) &&
			(len(r.Clusters) == 0 || a.Cluster == "" || slices.Contains(r.Clusters, a.Cluster))
	})
}

// weight orders severities.
func weight(s bus.Severity) int {
	return slices.Index([]bus.Severity{bus.SeverityInfo, bus.SeverityWarn, bus.SeverityError}, s)
}

// setup is what a reload changes.
type setup struct {
	quiet map[string]quiet
	pings map[string]string
}

// quiet are the quiet times of a cluster.
type quiet struct {
	begins *calendar.Calendar
	lasts  time.Duration
}

// at reports whether t is in a quiet time.
func (q quiet) at(t time.Time) bool {
	begun := q.begins.Next(t.Add(-q.lasts)) // the first one that may still last
	return !begun.IsZero() && !begun.After(t)
}

func newSetup(clusters []Cluster) (*setup, error) {
	s := &setup{map[string]quiet{}, map[string]string{}}
	for _, c := range clusters {
		if c.PingURL != "" {
			s.pings[c.Name] = c.PingURL
		}
		if c.QuietCron == "" {
			continue
		}
		begins, err := calendar.Parse(c.QuietCron, c.Zone)
		if err == nil && c.QuietFor <= 0 {
			err = errors.New("a positive time is needed")
		}
		if err != nil {
			return nil, fmt.Errorf("configure the quiet times of cluster %s: %w", c.Name, err)
		}
		s.quiet[c.Name] = quiet{begins, c.QuietFor}
	}
	return s, nil
}

// at reports whether nothing about the cluster is to be sent at t.
func (s *setup) at(cluster string, t time.Time) bool {
	q, has := s.quiet[cluster]
	return has && q.at(t)
}

func (c Config) check() error {
	if c.Actor == "" || c.GroupWait < 0 || c.Repeat < 0 {
		return errors.New("configure notifications: an actor is needed, and no time may be negative")
	}
	for _, d := range c.Destinations {
		if d.Name == "" || (d.URL == "") == (d.Program == "") || d.Timeout <= 0 || d.URL != "" && len(c.Sender) == 0 {
			return fmt.Errorf("configure destination %q: a name, a positive time and either a URL with a sender or a program are needed", d.Name)
		}
	}
	return nil
}
