// Package gateway is drydock's HTTP face: the dbjobs protocol that the scripts on the database hosts speak, and the REST
// API for operators. Its dispatcher brings jobs to the servers, through rows of the jobs table or through the API.
//
// The package owns the listeners, who may call, and the exact bytes of every answer. It keeps no state of its own: what
// a call changes goes through package store onto the bus, so that several gateways behind any balancer act as one. It
// leaves to the receiver where streams go, to the scheduler when jobs begin and whether they are proven.
//
// Two facts about the deployed clients shape everything here (wire.md section 1, perf.md section 3). They close their
// sending side before they have the answer, which ends the request's context: handlers work under a context that the
// client cannot end. And they leave half a second later, while the handler runs on and the client tries again: every
// call is answered within a few milliseconds, waits for no database, and may be repeated.
//
// docs/protocol.md and docs/rest.md describe the answers.
package gateway
