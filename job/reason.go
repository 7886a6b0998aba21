package job

// The reasons of queued jobs that others look for, beside [HeldReason]. They begin the text.
const (
	// NoPortReason: every port of the receivers' pool is taken.
	NoPortReason = "no free port in the pool"
	// NoReceiverReason: no receiver answers on the bus.
	NoReceiverReason = "no receiver answers"
)
