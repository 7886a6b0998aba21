package sshrun

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"
)

// repeatEvery is how often a failure that goes on is logged again.
const repeatEvery = time.Hour

// health remembers how the last session to each server ended, so that a host that is down for a night is one line in
// the log and not one per minute.
type health struct {
	log *slog.Logger

	mu   sync.Mutex
	sick map[targetKey]illness
}

type illness struct {
	what   string
	since  time.Time
	logged time.Time
	count  int
}

func newHealth(log *slog.Logger) *health { return &health{log: log, sick: map[targetKey]illness{}} }

// meaning is what the exit status of the script says, see the script's own header.
func meaning(exit int) string {
	switch exit {
	case 1:
		return "drydock's API is out of reach from there: see monitoring-address and api-port"
	case 2:
		return "a tool is missing there, or the environment is not usable"
	case 3:
		return "drydock refused the credentials"
	case notWhole:
		return "the script did not arrive whole"
	case 127:
		return "there is no bash"
	}
	return "the script failed"
}

// report logs the end of a session: what changed as a warning or as good news, what was known before for debugging.
func (h *health) report(t target, res result, err error, elapsed time.Duration) {
	log := h.log.With("cluster", t.cluster.Name, "server", t.server.String(), "host", t.host().String())
	args := []any{"elapsed", elapsed.Round(time.Millisecond)}
	if res.output != "" {
		args = append(args, "output", lastLines(res.output, 10))
	}
	var what string
	switch {
	case err != nil:
		what = err.Error()
	case res.exit != 0:
		what = fmt.Sprintf("exit status %d: %s", res.exit, meaning(res.exit))
	}
	level, past := h.change(t.key(), what, time.Now())
	switch {
	case what == "" && past.count > 0:
		log.Info("ssh session works again", append(args, "failed", past.count, "since", past.since.UTC())...)
	case what == "":
		log.Debug("ssh session ended", args...)
	default:
		log.Log(context.Background(), level, "ssh session failed", append(args, "err", what, "failures", past.count)...)
	}
}

// change takes in how a session ended ("" for well) and says how loud that is, and what was wrong: before, or still.
func (h *health) change(k targetKey, what string, now time.Time) (slog.Level, illness) {
	h.mu.Lock()
	defer h.mu.Unlock()
	was, sick := h.sick[k]
	if what == "" {
		delete(h.sick, k)
		return slog.LevelInfo, was
	}
	level := slog.LevelDebug
	if !sick || kind(was.what) != kind(what) || now.Sub(was.logged) >= repeatEvery {
		level, was.logged = slog.LevelWarn, now
	}
	if !sick {
		was.since = now
	}
	was.what = what
	was.count++
	h.sick[k] = was
	return level, was
}

// localPort is the part of a network error that is never the same twice.
var localPort = regexp.MustCompile(`:[0-9]+->`)

// kind is what two failures have in common that are the same to a person.
func kind(what string) string { return localPort.ReplaceAllString(what, "->") }

// lastLines are the last n lines of s.
func lastLines(s string, n int) string {
	lines := strings.Split(s, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
