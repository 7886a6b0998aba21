package orchestrator

import (
	"bytes"
	"strings"
	"sync"
)

const (
	maxLine  = 2000 // bytes of a line that are kept
	maxLines = 1000 // of one action that are handed on; then only the last words count
	keptLast = 3    // lines that become the error
)

// output cuts what a command prints into lines. Safe for concurrent use.
type output struct {
	to      func(string)
	secrets []string

	mu      sync.Mutex
	partial []byte
	count   int
	last    []string
	closed  bool
}

func newOutput(to func(string), secrets []string) *output {
	return &output{to: to, secrets: secrets}
}

// Write never fails: a command that cannot write would die of it.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(p)
	for !o.closed {
		line, rest, found := bytes.Cut(p, []byte("\n"))
		// Beyond a line's bound only as much is kept as lets a secret be seen that begins before it.
		o.partial = append(o.partial, line[:min(len(line), max(0, 2*maxLine-len(o.partial)))]...)
		if !found {
			break
		}
		o.line()
		p = rest
	}
	return n, nil
}

// line needs the mutex.
func (o *output) line() {
	s := strings.TrimRight(strings.ToValidUTF8(string(o.partial), "?"), "\r \t")
	o.partial = o.partial[:0]
	for _, secret := range o.secrets {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, "[secret]")
		}
	}
	if s = strings.ToValidUTF8(s[:min(len(s), maxLine)], ""); s == "" {
		return
	}
	if o.last = append(o.last, s); len(o.last) > keptLast {
		o.last = o.last[1:]
	}
	o.count++
	switch {
	case o.to == nil || o.count > maxLines:
	case o.count == maxLines:
		o.to("it prints more than is kept here")
	default:
		o.to(s)
	}
}

// close takes what has no line end yet for a line, and takes nothing more.
func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.partial) > 0 {
		o.line()
	}
	o.closed = true
}

// lastWords is the end of an error.
func (o *output) lastWords() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.last) == 0 {
		return ""
	}
	return ": " + strings.Join(o.last, "; ")
}
