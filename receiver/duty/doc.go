// Package duty does what a receiver has to do beside receiving: the jobs of mode [job.ByReceiver], which work on the
// backups it has stored.
//
// It owns such jobs from the moment they are queued, as package scheduler/local owns its own: it offers, claims, starts and
// ends them, gives their signs of life and keeps their log. What a job is about and how it is done is known to the
// [Worker] of its task. Several receivers serve the same clusters: a job is done by one that holds what it is about, and a
// claim has one winner.
package duty
