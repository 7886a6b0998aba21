// Package alert keeps the conditions of the fleet: what holds now is opened, what no longer holds is closed, and each of
// these edges is published once to DRYDOCK_ALERTS.
//
// It owns the judgement ([Holding], a pure function of a [Snapshot]) and the loop that turns it into edges
// ([Evaluator]). The last message on a condition's subject says whether it is open, and every edge is appended by
// compare-and-swap on it: a restart neither repeats nor forgets an edge, and any number of evaluators may run. It changes
// no job and asks no database. docs/conditions.md lists the codes.
package alert
