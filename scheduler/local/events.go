package local

import (
	"context"
	"fmt"
	"strings"
)

// events keeps a server's own event scheduler from running what a load brings: an event that the primary runs reaches a
// replica by replication.
type events struct {
	running bool // the event scheduler ran before
	stopped bool // and was stopped by us
}

// stop stops the scheduler. A load makes events by statement, enabled as they are on the primary.
func (e *events) stop(ctx context.Context, s *session) error {
	var state string
	if err := s.conn.QueryRowContext(ctx, "SELECT @@GLOBAL.event_scheduler").Scan(&state); err != nil {
		return err
	}
	if e.running = state == "ON"; !e.running {
		return nil
	}
	e.stopped = true // also when the answer is lost
	return s.exec(ctx, "SET GLOBAL event_scheduler=OFF")
}

// resume disables what was loaded, as replication would have, and starts the scheduler again if it ran before. The
// session's sql_mode is empty, and its statements stay out of the binary log.
func (e *events) resume(ctx context.Context, s *session) error {
	rows, err := records(ctx, s.conn, "SELECT EVENT_SCHEMA AS s, EVENT_NAME AS e, DEFINER AS d FROM information_schema.EVENTS WHERE STATUS = 'ENABLED'")
	if err != nil {
		return err
	}
	for _, row := range rows {
		event, definer := table{row["s"].String, row["e"].String}, row["d"].String
		at := strings.LastIndexByte(definer, '@')
		if at < 0 {
			at = len(definer) // a role
		}
		by := literal(definer[:at])
		if at < len(definer) {
			by += "@" + literal(definer[at+1:])
		}
		// Without its definer the event would become ours.
		if err := s.exec(ctx, "ALTER DEFINER="+by+" EVENT "+event.quoted()+" DISABLE ON SLAVE"); err != nil {
			return fmt.Errorf("event %s: %w", event, err)
		}
	}
	if !e.stopped {
		return nil
	}
	if err := s.exec(ctx, "SET GLOBAL event_scheduler=ON"); err != nil {
		return err
	}
	e.stopped = false
	return nil
}
