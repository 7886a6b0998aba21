package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// outputForms are the values of -o.
var outputForms = []string{"table", "json", "yaml"}

// outputForm is the flag -o: it refuses what print cannot write before anything is done.
type outputForm struct{ to *string }

func (f outputForm) String() string {
	if f.to == nil {
		return ""
	}
	return *f.to
}

func (f outputForm) Type() string { return "form" }

func (f outputForm) Set(s string) error {
	for _, known := range outputForms {
		if s == known {
			*f.to = s
			return nil
		}
	}
	return errors.New("it is table, json or yaml")
}

// outputFlag adds -o to a command that lists something.
func (c *cli) outputFlag(cmd *cobra.Command) {
	c.output = "table"
	cmd.Flags().VarP(outputForm{&c.output}, "output", "o", "table, json or yaml")
}

// print writes v as JSON or YAML, or rows as a table under the heading, as -o says. A list without anything is an empty list.
func (c *cli) print(w io.Writer, v any, heading []string, rows [][]string) error {
	if c.output == "table" {
		return writeTable(w, heading, rows)
	}
	if list := reflect.ValueOf(v); list.Kind() == reflect.Slice && list.IsNil() {
		v = []any{}
	}
	if c.output == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	}
	text, err := json.Marshal(v) // its names, its order
	if err == nil {
		text, err = yaml.JSONToYAML(text)
	}
	if err == nil {
		_, err = w.Write(text)
	}
	return err
}

// writeTable writes rows under a heading, each column as wide as its widest cell. States are coloured on a terminal.
func writeTable(w io.Writer, heading []string, rows [][]string) error {
	all := append([][]string{heading}, rows...)
	var width []int
	for i, row := range all {
		for k, cell := range row {
			if i > 0 {
				cell = printable(cell)
				row[k] = cell
			}
			if k == len(width) {
				width = append(width, 0)
			}
			width[k] = max(width[k], utf8.RuneCountInString(cell))
		}
	}
	colours := colourful(w)
	var out strings.Builder
	for i, row := range all {
		for k, cell := range row {
			pad := 0
			if k < len(row)-1 {
				pad = width[k] - utf8.RuneCountInString(cell) + 2
			}
			if colours && i > 0 {
				cell = coloured(cell)
			}
			out.WriteString(cell)
			out.WriteString(strings.Repeat(" ", pad))
		}
		out.WriteByte('\n')
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// colourful reports whether w is a terminal whose user wants colours (no-color.org).
func colourful(w io.Writer) bool {
	if s, ok := w.(*canvas); ok {
		return s.colours
	}
	return isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// The colours of states, outcomes and severities.
const (
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	red    = "\x1b[31m"
	blue   = "\x1b[34m"
	plain  = "\x1b[0m"
)

var colours = map[string]string{
	"success": green, "OK": green, "passed": green, "good": green, "fired": green,
	"claimed": blue, "processing": blue, "waiting": blue, "finished": blue,
	"late": yellow, "skipped": yellow, "canceled": yellow, "WARN": yellow, "warn": yellow, "disarmed": yellow, "off": yellow,
	"halted": red, "failed": red, "expired": red, "missed": red, "undecided": red, "lost": red, "FAIL": red, "ERROR": red, "error": red, "refused": red,
}

// coloured paints a cell that is a word with a meaning.
func coloured(cell string) string {
	if c, ok := colours[cell]; ok {
		return c + cell + plain
	}
	return cell
}

// bytes writes a size as people read it.
func bytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/unit, 0
	for ; f >= unit && i < 4; i++ {
		f /= unit
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTP"[i])
}

// clock writes a time in local time, `-` for none.
func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// took writes how long something took or takes.
func took(from, to time.Time) string {
	if from.IsZero() {
		return "-"
	}
	if to.IsZero() {
		to = time.Now()
	}
	return to.Sub(from).Round(10 * time.Millisecond).String()
}

// short cuts a text to n characters for a table.
func short(s string, n int) string {
	s = printable(strings.Join(strings.Fields(s), " "))
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
