// Package job is drydock's domain: the tasks, the states of a job and the one table that says how a job moves
// between them, and the pure rule that decides whether a finished job is proven.
//
// It owns no storage, no bus and no clock; it imports only the standard library. Everything that happens to a job
// is an [Event] given to [Next]; whoever applies it (package store) writes the outcome with compare-and-swap.
package job
