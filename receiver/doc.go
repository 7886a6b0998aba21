// Package receiver is the pool of ports that database servers stream their backups and logs to.
//
// A gateway reserves a port for one attempt of a job over the bus; one connection from that server's own address is
// taken on it, hashed and made durable by package sink, and what became of it is recorded with the job. It is published
// (a backup renamed and given its manifest, a log appended) only when the scheduler, which judges the proof, asks for it.
//
// The package owns ports, connections, their deadlines and the files until they are published. It leaves to others when
// a job is offered, whether it is proven, and when it is run again. See DESIGN.md beside this file.
package receiver
