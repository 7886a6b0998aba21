package archive

import "strings"

// tell takes a status line of restic.
func (w *work) tell(s status) {
	if s.Kind == "status" {
		w.Moved(s.Done, 100*s.Percent)
	}
}

// note sets the reason of the job while it works.
func (w *work) note(reason string) {
	reason = w.cluster.redact(reason)
	if reason != "" {
		w.log.Info("job waits", "job", w.Job(), "reason", reason)
	}
	w.Note(reason)
}

func (w *work) sayLine(line []byte) {
	if s := strings.TrimSpace(string(line)); s != "" {
		w.say(s)
	}
}

func (w *work) say(text string) { w.Say(w.cluster.redact(text)) }
