package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxWidth is how wide a line gets, in characters.
const maxWidth = 100

// screen writes lines, and below them on a terminal a block that is drawn again and again. Safe for concurrent use.
type screen struct {
	w     io.Writer
	live  bool // a terminal: blocks can be drawn over
	width int

	mu    sync.Mutex
	drawn int // lines of the block now on the terminal
}

func newScreen(w io.Writer) *screen {
	s := &screen{w: w, width: maxWidth}
	if f, ok := w.(*os.File); ok {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
			s.live = true
			if size.Col > 0 { // a wrapped line would be two when it is drawn over
				s.width = min(maxWidth, int(size.Col))
			}
		}
	}
	return s
}

// print writes a line that stays, above the block.
func (s *screen) print(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	fmt.Fprintf(s.w, format+"\n", args...)
}

// draw shows the block; where there is no terminal it shows nothing.
func (s *screen) draw(lines []string) {
	if !s.live {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&out, "\x1b[%dA", s.drawn)
	}
	for _, l := range lines {
		fmt.Fprintf(&out, "\x1b[2K%s\n", clip(l, s.width))
	}
	if s.drawn > len(lines) {
		out.WriteString("\x1b[J")
	}
	_, _ = io.WriteString(s.w, out.String()) // in one write, so that nobody sees half of it
	s.drawn = len(lines)
}

// erase takes the block away.
func (s *screen) erase() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
}

func (s *screen) clear() {
	if s.drawn > 0 {
		fmt.Fprintf(s.w, "\x1b[%dA\x1b[J", s.drawn)
		s.drawn = 0
	}
}

// clip cuts a text to n characters and replaces what would steer a terminal.
func clip(text string, n int) string {
	r := []rune(strings.ToValidUTF8(text, "?"))
	for i, c := range r {
		if c < ' ' || c >= 0x7f && c < 0xa0 {
			r[i] = ' '
		}
	}
	if len(r) <= n {
		return string(r)
	}
	return string(r[:n-3]) + "..."
}

// bytes writes a size as people read it.
func bytes(n int64) string {
	const unit = 1 << 10
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/unit, 0
	for ; f >= unit && i < 3; i++ {
		f /= unit
	}
	return strings.Replace(fmt.Sprintf("%.1f %ciB", f, "KMGT"[i]), ".0 ", " ", 1)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
