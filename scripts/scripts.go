// Package scripts holds the dbjobs script that runs on the database hosts, as the manager delivers it, the launcher that
// keeps it running in a container, and the environment both are given. The scripts' own headers describe their input,
// their files and their exit status.
package scripts

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"strings"
)

//go:embed dbjobs
var dbjobs []byte

//go:embed dbjobs_start
var launcher []byte

// Version is the version the script names in its VERSION line and sends as "drydock-dbjobs/VERSION" in its
// User-Agent. Empty if the line is missing.
var Version = version(dbjobs)

// Script returns the script's text, whose last line is "# EOF". The caller owns the copy.
func Script() []byte {
	return bytes.Clone(dbjobs)
}

// Launcher returns the text of dbjobs_start, which keeps the script running in a container. The caller owns the copy.
func Launcher() []byte {
	return bytes.Clone(launcher)
}

// Checksum returns the SHA-256 of a script in lower-case hexadecimal, which is what jobs-check compares and what the
// jobs-upgrade line of jobs-pending may announce.
func Checksum(script []byte) string {
	sum := sha256.Sum256(script)
	return hex.EncodeToString(sum[:])
}

func version(script []byte) string {
	for line := range strings.Lines(string(script)) {
		if v, ok := strings.CutPrefix(line, "VERSION='"); ok {
			return strings.TrimSuffix(v, "'\n")
		}
	}
	return ""
}
