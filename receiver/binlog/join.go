package binlog

import "fmt"

// joiner follows a history over the logs of several servers by GTID: what was had before is passed over, what is new is taken, and
// what must have been between is noticed. The zero value with a state is ready.
//
// Inside one unbroken stream nothing is judged by numbers, which may jump and even go back without anything being lost. Only where
// a stream begins, each domain must be joined: by the last transaction that was had, or by the one that follows it.
type joiner struct {
	state  State
	joined map[uint32]bool
}

// stream begins another stream, which goes on after the transactions of before.
func (j *joiner) stream(before State) {
	j.joined = map[uint32]bool{}
	for d, g := range before {
		j.joined[d] = j.state[d] == g
	}
}

// take says whether a transaction is new; done must follow when it is complete.
func (j *joiner) take(g GTID) (isNew bool, err error) {
	had, known := j.state[g.Domain]
	switch {
	case j.joined[g.Domain] || !known:
		return true, nil
	case g.Seq < had.Seq, g == had:
		return false, nil
	case g.Seq == had.Seq:
		return false, fmt.Errorf("histories part: %s here, %s before", g, had)
	case g.Seq > had.Seq+1:
		return false, fmt.Errorf("transactions between %s and %s are missing", had, g)
	}
	return true, nil
}

// done takes a complete transaction in.
func (j *joiner) done(g GTID) {
	had, known := j.state[g.Domain]
	if j.joined[g.Domain] || !known || g.Seq >= had.Seq {
		j.state[g.Domain] = g
		j.joined[g.Domain] = true
	}
}
