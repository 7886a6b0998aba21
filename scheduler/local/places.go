package local

import (
	"sync"

	"drydock/job"
)

// many are the tasks that fall due on all servers of a fleet in the same second. For each, long says that most of its time is
// the server's own.
var many = map[string]struct{ long bool }{
	"analyze": {long: true}, "optimize": {long: true}, "logstablerotate": {}, "schemamonitor": {},
}

// manyAtOnce is how many of [many] may be connecting, or be done by drydock, at a time.
const manyAtOnce = 256

// enter gives a job one of the places for its kind; ok is false while there is none, and the next to leave has us look again.
// A job that waits for another one has no place, nor has one whose statements the server is at work on: neither
// may keep out what it waits for, nor others for hours. leave may be called more than once.
func (r *Runner) enter(j job.Job) (leave func(), ok bool) {
	if _, bounded := many[j.Task]; !bounded {
		return func() {}, true
	}
	select {
	case r.places <- struct{}{}:
	default:
		r.crowded.Store(true)
		return nil, false
	}
	return sync.OnceFunc(func() {
		<-r.places
		if r.crowded.Swap(false) {
			r.wakeUp()
		}
	}), true
}
