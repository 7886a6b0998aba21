// Package local does the tasks that need nothing but an SQL connection, from drydock itself: ANALYZE and OPTIMIZE table by
// table, the rotation of log tables, the schema monitor. It runs the tools of logical backups, mysqldump and mydumper, on
// drydock's own host and streams what they make to a receiver. It also keeps the facts about every server.
//
// It owns jobs of mode [job.Local] from the moment they are queued: it offers, claims, starts and ends them, and gives
// their signs of life. Which tasks these are is decided where jobs are created; whether one succeeded, by the closer.
//
// Several runners may serve the same clusters: a claim has one winner. A runner that dies leaves its jobs to the lease.
package local
