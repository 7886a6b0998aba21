// Package notify tells people, over mail, chat and other services, about the conditions that package alert keeps.
//
// It owns who is told what and when ([Notifier]), the record of it on DRYDOCK_NOTIFICATIONS, and the pings of dead-man's
// switches. What a destination was told is read from that record alone: a restart tells nothing twice. Of several
// notifiers one works, by a lease. docs/alerts.md says what is promised.
package notify
