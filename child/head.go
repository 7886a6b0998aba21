// Package child holds what the programs that drydock runs have in common: they end with it, and what they say is bounded.
package child

import "bytes"

// Head keeps the first Most bytes of what is written to it.
type Head struct {
	bytes.Buffer
	Most int
}

// Write never fails: a program that cannot write would die of it.
func (h *Head) Write(p []byte) (int, error) {
	if room := h.Most - h.Len(); room > 0 {
		_, _ = h.Buffer.Write(p[:min(room, len(p))]) // never fails
	}
	return len(p), nil
}
