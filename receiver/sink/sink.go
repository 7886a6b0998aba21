// Package sink puts the bytes of one stream durably into a file of a server's folder.
//
// The work is cut in two so that nothing is called done without proof. A [File] receives, hashes and
// syncs into a hidden temporary file; [Publish] (a backup) or [AppendLog] (a log) makes it visible
// later, when the job's other proofs are complete, perhaps in another process after a crash. Both
// may be called again at any time without doubling or losing a byte.
//
// The package owns names, bytes and their durability inside one folder. It leaves to its callers:
// deadlines on the network, what counts as proof, which temporary files are still wanted ([Sweep]),
// and that one process at a time works in a folder.
package sink

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"filippo.io/age"
)

// Hash algorithms of [Spec.Hash] and [HashFile] (configuration key backup-hash). SHA-256 is what a script reports of the
// bytes it sent, and costs more CPU than everything else the sink does; BLAKE3 is for those who can do without.
const (
	BLAKE3 = "blake3"
	SHA256 = "sha256"
)

// Compressions of [Spec.Compress] (configuration key compress-backups).
const (
	None = "none"
	Gzip = "gzip"
	Zstd = "zstd"
)

// ErrWrite is in the chain of every error that the storage side caused: disk full, I/O error, a file
// that could not be synced. The sender must be stopped and the job fails. Errors without it came
// from the stream or from the caller's context. The cause stays visible:
// errors.Is(err, syscall.ENOSPC).
var ErrWrite = errors.New("write sink")

// Spec names one stream's place on disk. The same Spec, rebuilt from the job after a restart, leads
// to the same files.
type Spec struct {
	Dir  string // folder of the server, made with mode 0700 when missing
	Name string // name of the published file, without the suffixes of its form; no leading dot
	Tag  string // job id and attempt: letters, digits, "-" and "_", so that Sweep can tell it from Name
	Hash string // BLAKE3 or SHA256

	// Compress is None, Gzip or Zstd; empty is None. It adds ".gz" or ".zst" to the final name.
	Compress string
	// Encrypted adds ".age" to the final name: the file is encrypted after compression, before a byte of it touches the disk.
	Encrypted bool
	// Recipients are whom it is encrypted for (configuration key backup-encrypt-recipients). Only [Create] needs them.
	Recipients []age.Recipient
}

var tagPattern = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// maxNameLen is NAME_MAX of every Linux file system in use: bytes of one path element.
const maxNameLen = 255

// validate refuses what would leave Dir or make a name ambiguous. Names come from configuration,
// but a mistake there must not become a path.
func (s Spec) validate() error {
	switch {
	case s.Dir == "":
		return errors.New("check sink: empty folder")
	case s.Name == "" || s.Name[0] == '.' || strings.ContainsFunc(s.Name, forbiddenInName):
		return fmt.Errorf("check sink: name %q is empty, hidden, or has a separator or control character", s.Name)
	case !tagPattern.MatchString(s.Tag):
		return fmt.Errorf("check sink: tag %q is not made of letters, digits, - and _", s.Tag)
	case len(s.hidden(s.Tag+".part")) > maxNameLen || len(s.hidden("journal.tmp")) > maxNameLen:
		return fmt.Errorf("check sink: name %q with tag %q is longer than %d bytes", s.Name, s.Tag, maxNameLen)
	}
	_, err := s.suffix()
	return err
}

func forbiddenInName(r rune) bool {
	return r == '/' || r == '\\' || r < ' ' || r == 0x7f
}

// suffix is what the form of the file adds to its name; empty for the bytes of the stream as they came.
func (s Spec) suffix() (suffix string, err error) {
	switch s.Compress {
	case "", None:
	case Gzip:
		suffix = ".gz"
	case Zstd:
		suffix = ".zst"
	default:
		return "", fmt.Errorf("check sink: unknown compression %q", s.Compress)
	}
	if s.Encrypted {
		suffix += ".age"
	}
	return suffix, nil
}

// hidden is the base name of a file that accompanies Name.
func (s Spec) hidden(what string) string { return "." + s.Name + "." + what }

// Temp is the path that the stream is received into.
func (s Spec) Temp() string { return filepath.Join(s.Dir, s.hidden(s.Tag+".part")) }

// Final is the path [Publish] renames to, the suffixes of compression and encryption included. [AppendLog] appends to it.
func (s Spec) Final() string {
	suffix, _ := s.suffix() // an unknown compression has been refused by validate
	return filepath.Join(s.Dir, s.Name+suffix)
}

// TagOf is the tag of a temporary file, by its base name; false for other files.
func TagOf(base string) (string, bool) {
	rest, isPart := strings.CutSuffix(base, ".part")
	dot := strings.LastIndexByte(rest, '.')
	if !isPart || dot < 2 || rest[0] != '.' {
		return "", false
	}
	tag := rest[dot+1:]
	return tag, tagPattern.MatchString(tag)
}
