package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// meter shows on a terminal how far a stream was read, below what is said meanwhile. Safe for concurrent use.
type meter struct {
	w     io.Writer
	tty   bool
	total int64

	mu    sync.Mutex
	shown bool      // a bar stands in the last line
	last  time.Time // it was drawn
}

// meterEvery is how often the bar moves.
const meterEvery = 200 * time.Millisecond

func newMeter(w io.Writer, total int64) *meter { return &meter{w: w, tty: isTerminal(w), total: total} }

func (m *meter) say(line string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wipe()
	fmt.Fprintln(m.w, line)
}

// moved draws the bar for so many bytes.
func (m *meter) moved(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.tty || m.total <= 0 || time.Since(m.last) < meterEvery {
		return
	}
	m.wipe()
	fmt.Fprintf(m.w, "%s %s of %s", bar(n, m.total), bytes(n), bytes(m.total))
	m.shown, m.last = true, time.Now()
}

// wipe takes the bar away. The caller holds mu.
func (m *meter) wipe() {
	if m.shown {
		fmt.Fprint(m.w, "\r\x1b[2K")
		m.shown = false
	}
}

func (m *meter) done() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wipe()
}
