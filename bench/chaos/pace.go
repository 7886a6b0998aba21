package main

import "time"

// pace is how fast a run goes: how often tasks are due, how soon drydock gives up on what died, how long a blow lasts.
type pace struct {
	schedule map[string]int // seconds by task; each divides a minute, so that the instants are those seconds
	lease    time.Duration  // of a job at work
	accept   time.Duration  // for a stream to come, and between two of its bytes
	quiet    time.Duration  // the longest wait for transitions before a blow
	long     time.Duration  // the same where a backup shall have the time to succeed
	stop     time.Duration  // the longest stop, full disk, full bus or slow disk
	sender   time.Duration  // how long a stream to strike is waited for
}

// steady leaves backups the time to succeed now and then.
var steady = pace{
	schedule: map[string]int{"errorlog": 5, "slowquery": 5, "mariabackup": 10, "optimize": 15, "analyze": 6},
	lease:    15 * time.Second, accept: 10 * time.Second,
	quiet: 3 * time.Second, long: 10 * time.Second, stop: 5 * time.Second, sender: 5 * time.Second,
}

// brisk is for the tests: what waits for a clock waits less.
var brisk = pace{
	schedule: map[string]int{"errorlog": 2, "slowquery": 2, "mariabackup": 5, "optimize": 6, "analyze": 3},
	lease:    5 * time.Second, accept: 4 * time.Second,
	quiet: time.Second, long: 2 * time.Second, stop: 1500 * time.Millisecond, sender: 2 * time.Second,
}
