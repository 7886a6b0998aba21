// Package rolling restarts or reprovisions the servers of a cluster one after the other: the replicas first, then the
// primary, each only when the one before is well again.
//
// It owns the order, the steps and the gate between two of them. How a server is restarted is the business of the task
// restart, how it is reprovisioned that of package orchestrator. An operation is a job of the whole cluster; its plan and
// position stand in that job ([job.Plan]), so whichever scheduler is there takes it up where it stood.
//
// It never changes who replicates from whom. A hook may; then the roles are read again.
package rolling
