// Package drill restores a backup into a scratch server on this machine and looks whether it is all there: a backup counts
// when it has been shown to restore.
//
// It owns the scratch folder and what it finds; [recovery] does the restoring. Which backup is drilled, when, and what becomes
// of the result is the caller's business.
package drill
