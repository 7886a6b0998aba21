package binlog

import (
	"fmt"
	"slices"
	"time"

	"drydock/job"
	"drydock/store"
)

// shelf is what a server has.
type shelf struct {
	server  job.Server
	mariadb bool
	files   []logFile // oldest first
	current State     // all that the server has applied; nil when it cannot be told
	head    func(file string) (head, error)
}

// start is where an archive goes on.
type start struct {
	file   string
	resume *store.Segment // the log is archived up to there; nil: from its beginning
	last   store.Segment  // the newest of the archive; zero when there is none
	joins  bool           // what comes follows last without anything between
	gap    *store.Gap     // what lies between
}

// decide finds where the archive goes on on a server. Nothing that the archive has is begun again, except what a server that
// became the primary has in the same log as what is new.
func decide(archive []store.Segment, s shelf, now time.Time) (start, error) {
	if len(s.files) == 0 {
		return start{}, fmt.Errorf("archive the binary log of %s: it has none yet", s.server)
	}
	links := store.BinlogChain(archive)
	if len(links) == 0 {
		return start{file: s.files[0].name}, nil
	}
	last := links[len(links)-1].Segment
	if last.Server != s.server {
		return s.elsewhere(last, now)
	}
	return s.again(last, now)
}

func (s shelf) gap(last store.Segment, now time.Time, after State, format string, args ...any) *store.Gap {
	return &store.Gap{Found: now.UTC(), Since: last.Until(), Before: last.After, After: after.String(), Reason: fmt.Sprintf(format, args...)}
}

// again goes on on the server that was archived last.
func (s shelf) again(last store.Segment, now time.Time) (start, error) {
	at := slices.IndexFunc(s.files, func(f logFile) bool { return f.name == last.File })
	if at < 0 {
		return s.purged(last, now)
	}
	h, err := s.head(last.File)
	if err != nil {
		return start{}, err
	}
	switch {
	case h.sum != last.Log:
		first, err := s.head(s.files[0].name)
		return start{file: s.files[0].name, last: last, gap: s.gap(last, now, first.had,
			"%s of %s is another one than was archived: the binary log was reset", last.File, s.server)}, err
	case s.files[at].size < last.End:
		next := s.files[min(at+1, len(s.files)-1)].name
		first, err := s.head(next)
		return start{file: next, last: last, gap: s.gap(last, now, first.had,
			"%s of %s ends at %d and was archived up to %d: the server lost transactions in a crash", last.File, s.server, s.files[at].size, last.End)}, err
	}
	return start{file: last.File, resume: &last, last: last, joins: true}, nil
}

// purged goes on when the file that was archived last is no longer there.
func (s shelf) purged(last store.Segment, now time.Time) (start, error) {
	oldest := s.files[0].name
	h, err := s.head(oldest)
	if err != nil {
		return start{}, err
	}
	out := start{file: oldest, last: last}
	switch { // by what this server's own log has: the archive may have domains of others
	case s.mariadb && h.had.String() == last.Own && last.Bound == last.End, !s.mariadb && last.Next == oldest:
		out.joins = true
	case s.mariadb && !h.had.Covers(stateOf(last.Own)):
		out.gap = s.gap(last, now, h.had, "the binary log of %s was reset: %s begins after %q and the archive has %s", s.server, oldest, h.had, last.Own)
	default:
		out.gap = s.gap(last, now, h.had, "%s of %s was purged before all of it was archived; the oldest there is %s", or(last.Next, last.File), s.server, oldest)
	}
	return out, nil
}

// elsewhere goes on on a server that became the primary: in its newest log that begins with nothing that the archive lacks.
func (s shelf) elsewhere(last store.Segment, now time.Time) (start, error) {
	have := stateOf(last.After)
	out := start{file: s.files[0].name, last: last}
	var oldest head
	for _, f := range slices.Backward(s.files) {
		h, err := s.head(f.name)
		if err != nil {
			return start{}, err
		}
		if oldest = h; s.mariadb && have.Covers(h.had) {
			out.file = f.name
			if s.current != nil && !s.current.Covers(have) {
				out.gap = s.gap(last, now, s.current, "%s became the primary with %s, and the archive has %s of %s: transactions were lost", s.server, s.current, have, last.Server)
			}
			return out, nil
		}
	}
	if !s.mariadb || last.Flavor != store.FlavorMariaDB {
		out.gap = s.gap(last, now, State{}, "the archive goes on on %s after %s, and without GTIDs of MariaDB it cannot be told what lies between", s.server, last.Server)
		return out, nil
	}
	out.gap = s.gap(last, now, oldest.had, "%s became the primary, and its oldest binary log begins after %s; the archive has %s", s.server, oldest.had, have)
	return out, nil
}
