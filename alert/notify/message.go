package notify

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"drydock/bus"
	"drydock/job"
)

// Message is a notification as a destination gets it; alert-script as JSON on its standard input.
type Message struct {
	// ID is the same in every try to tell the same.
	ID          string       `json:"id"`
	Destination string       `json:"destination"`
	Severity    bus.Severity `json:"severity"` // the highest of Conditions
	Test        bool         `json:"test"`
	Title       string       `json:"title"`
	Text        string       `json:"text"`
	Conditions  []Condition  `json:"conditions"`
}

// Condition is one condition in a [Message].
type Condition struct {
	Kind      bus.ToldKind `json:"kind"`
	Condition string       `json:"condition"` // its name, as `drydock alerts ack` takes it
	Code      string       `json:"code"`
	Severity  bus.Severity `json:"severity"`
	Cluster   string       `json:"cluster,omitempty"`
	Server    job.Server   `json:"server,omitzero"`
	Task      string       `json:"task,omitempty"`
	Text      string       `json:"text"`
	Since     time.Time    `json:"since"`
	JobID     string       `json:"job_id,omitempty"`
}

// What services take at least: the text of a chat message is bounded (Telegram 4096, Discord 2000 a part).
const (
	mostLines = 20
	mostText  = 3500 // bytes
	mostLine  = 300
	mostTitle = 200
)

// compose puts the items into words.
func compose(destination string, items []item) Message {
	m := Message{ID: identify(destination, items), Destination: destination, Severity: bus.SeverityInfo, Title: title(items), Text: text(items)}
	for _, it := range items {
		a := it.alert
		if weight(a.Severity) > weight(m.Severity) {
			m.Severity = a.Severity
		}
		m.Conditions = append(m.Conditions, Condition{
			it.kind, it.name, a.Code, a.Severity, a.Cluster, a.Server, a.Task, plain(a.Text), a.Since, a.JobID,
		})
	}
	return m
}

// title says in one line what it is about.
func title(items []item) string {
	if len(items) == 1 {
		return "drydock: " + line(items[0], mostTitle-len("drydock: "))
	}
	var parts, clusters []string
	for _, kind := range []bus.ToldKind{bus.ToldOpened, bus.ToldRepeated, bus.ToldResolved} {
		if n := count(items, func(it item) bool { return it.kind == kind }); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, words[kind]))
		}
	}
	for _, it := range items {
		if c := it.alert.Cluster; c != "" && !slices.Contains(clusters, c) {
			clusters = append(clusters, c)
		}
	}
	out := "drydock: " + strings.Join(parts, ", ")
	if n := count(items, func(it item) bool { return it.kind != bus.ToldResolved && it.alert.Severity == bus.SeverityError }); n > 0 {
		out += fmt.Sprintf(" (errors: %d)", n)
	}
	if len(clusters) > 0 {
		out += " on " + strings.Join(clusters, ", ")
	}
	return cut(plain(out), mostTitle)
}

var words = map[bus.ToldKind]string{bus.ToldOpened: "new", bus.ToldRepeated: "still open", bus.ToldResolved: "resolved"}

func count(items []item, f func(item) bool) (n int) {
	for _, it := range items {
		if f(it) {
			n++
		}
	}
	return n
}

// text lists the conditions, as many as fit.
func text(items []item) string {
	var b strings.Builder
	for i, it := range items {
		l := line(it, mostLine) + "\n"
		if i == mostLines || b.Len()+len(l) > mostText {
			fmt.Fprintf(&b, "and %d more: `drydock alerts` lists them\n", len(items)-i)
			break
		}
		b.WriteString(l)
		if it.kind != bus.ToldResolved {
			fmt.Fprintf(&b, "  since %s; acknowledge: drydock alerts ack %s\n", it.alert.Since.UTC().Format("2006-01-02 15:04:05 MST"), it.name)
		}
	}
	return b.String()
}

// line is one condition on one line of at most so many bytes.
func line(it item, most int) string {
	a := it.alert
	parts := []string{words[it.kind], string(a.Severity)}
	if a.Cluster != "" {
		parts = append(parts, a.Cluster)
	}
	if a.Server.Host != "" {
		parts = append(parts, a.Server.String())
	}
	return cut(plain(strings.Join(append(parts, a.Code), " ")+": "+a.Text), most)
}

// plain makes one line of s: what stands in it came from servers and tools, and becomes the header of a mail.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, s)
}

// cut shortens s to at most so many bytes, between two characters.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	const dots = "..."
	return strings.ToValidUTF8(s[:most-len(dots)], "") + dots
}
