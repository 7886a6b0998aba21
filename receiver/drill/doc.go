// Package drill restores a backup into a scratch server on this machine and looks whether it is all there: a backup counts
// when it has been shown to restore.
//
// It owns the scratch folder, the processes it starts in it and what they find. Which backup is drilled, when, and what
// becomes of the result is the caller's business. Nothing outside the scratch folder is written, but for a socket in a
// private temporary folder when its path would be too long; the scratch server listens nowhere else, runs no events,
// replicates from nobody and writes no binary log.
package drill
