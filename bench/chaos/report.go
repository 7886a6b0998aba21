package main

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is what is written about a run.
type report struct {
	Seed         uint64
	Mode, Only   string // Only: the blows that it was restricted to
	Begun        time.Time
	Storm, Whole time.Duration
	Count        map[string]int
	Dealt        int // blows that found something to strike
	Acked, Sent  int
	Asked        int
	Notes        []string
	Verdict      verdict

	catalog []entry[manifestRecord] // as it was when drydock was stopped
}

// markdown is the report for people.
func (r *report) markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# A storm of %s, seed %d\n\n", r.Begun.UTC().Format("2006-01-02 15:04 UTC"), r.Seed)
	if r.Only != "" {
		fmt.Fprintf(&b, "Only blows whose names begin with one of: %s.\n\n", r.Only)
	}
	fmt.Fprintf(&b, "%s mode, %d processors (%s), %s; %.0f s of storm, %.0f s in all.\n\n", r.Mode, runtime.NumCPU(), model(), kernel(), r.Storm.Seconds(), r.Whole.Seconds())
	fmt.Fprintf(&b, "**%d violations.** %d of %d log lines were acknowledged, %d jobs were promised by hand.\n\n", len(r.Verdict.Violations), r.Acked, r.Sent, r.Asked)
	table(&b, "blow", r.Count)
	table(&b, "end of a job", r.Verdict.Ends)
	b.WriteString("Checked:\n\n")
	for _, c := range r.Verdict.Checked {
		fmt.Fprintf(&b, "- %s\n", c)
	}
	b.WriteString("\n| promise | violations |\n|---|---|\n")
	for _, p := range promises {
		n := 0
		for _, v := range r.Verdict.Violations {
			if v.Promise == p {
				n++
			}
		}
		fmt.Fprintf(&b, "| %s | %d |\n", p, n)
	}
	for _, v := range r.Verdict.Violations {
		fmt.Fprintf(&b, "\n- **%s**: %s", v.Promise, v)
	}
	if len(r.Notes) > 0 {
		b.WriteString("\nNotes:\n\n")
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "- %s\n", strings.ReplaceAll(n, "\n", "\n      "))
	}
	return b.Bytes()
}

func table(b *bytes.Buffer, head string, counts map[string]int) {
	fmt.Fprintf(b, "| %s | times |\n|---|---|\n", head)
	for _, k := range slices.SortedFunc(maps.Keys(counts), func(x, y string) int { return cmp.Or(counts[y]-counts[x], strings.Compare(x, y)) }) {
		fmt.Fprintf(b, "| %s | %d |\n", k, counts[k])
	}
	b.WriteString("\n")
}

func model() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func kernel() string {
	text, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return "Linux " + strings.TrimSpace(string(text))
}
