// Package dump reads logical dumps while they pass by: the text of mysqldump, the tar of a folder that mydumper made, and
// mydumper's metadata.
//
// It finds what the end of a stream does not tell: whether the tool came to its own end, whether there is anything in
// the dump, whether files are missing or cut, and the position in the binary log that it belongs to. It restores nothing and decides
// nothing. A bit that changed in a statement it does not find: nothing in a dump repeats it. The hashes of what was sent and stored do.
package dump

import "errors"

// The defects a dump can have; each is wrapped with what is missing.
var (
	// ErrTruncated is a dump without the tool's own end.
	ErrTruncated = errors.New("dump is truncated")
	// ErrEmpty is a dump without any table.
	ErrEmpty = errors.New("dump is empty")
	// ErrMissing is a dump that lacks a file: the rows or the schema of a table, the schema of a database.
	ErrMissing = errors.New("dump is not whole")
)

// Position is where in a binary log the data of a dump belongs.
type Position struct {
	File string // empty when the server keeps no binary log, or the tool did not say
	Pos  int64
	GTID string // without white space
	// Source is true when the log is that of the server which the dumped one replicates from, and not its own.
	Source bool
}

// IsZero reports whether there is no position.
func (p Position) IsZero() bool { return p.File == "" && p.GTID == "" }
