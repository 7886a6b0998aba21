// Package joblog reads the decrypted log lines of a job: the level of each line, and the evidence that the lines give
// about the work (maintenance.txt section 6.1.7.2, wire.md sections 4 and 5).
//
// It is pure: text in, values out. It stores nothing, publishes nothing, and does not decide whether a job is proven;
// package job does. Text of a line is never changed, only cut into lines.
//
// Clients send five lines at a time and repeat a batch whose answer they missed, so evidence of one batch is partial.
// [Merge] puts the batches of a job together in the order they came, and the same batch twice does no harm.
package joblog
