// Package scheduler decides when work is due and sees every job through to a state that says what became of it.
//
// It has five loops. The clock writes each due tick into the ledger (DRYDOCK_TASKS), exactly once however many
// schedulers share a bus. The fan-out turns a ledger entry into one queued job per server. The sweeper ends what nobody
// took, what gives no sign of life any more, and starts further attempts. The closer decides whether a job whose worker
// said done is proven, and has its stream published. The service answers when each schedule comes next.
//
// It owns no SQL, no port and no file: the gateway offers jobs to the database hosts and the receiver keeps their
// streams; all meet on the bus. Everything here may be done twice or by another scheduler at the same time: what counts
// is what compare-and-swap let through in package store.
package scheduler
