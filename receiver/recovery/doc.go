// Package recovery makes data of a backup again, in a private folder on this machine: it unpacks with a hash over every byte,
// prepares or loads, and runs a private server on the result.
//
// It owns the folder's content, the processes it starts there and the answer to whose fault a failure is: the backup's
// ([ErrBackup]) or the machine's. Which backup, why, and what becomes of the data is the caller's business: a drill looks
// through them and throws them away, a restore keeps them. Nothing outside the folder is written, but for a socket in a private
// temporary folder when its path would be too long. The private server listens nowhere else, runs no events, replicates from
// nobody and writes no binary log.
package recovery
