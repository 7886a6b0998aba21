package web

import (
	"fmt"
	"html/template"
	"math"
	"net/url"
	"strings"
	"time"

	"drydock/bus"
	"drydock/job"
)

// funcs are what the templates call.
func funcs(a assets) template.FuncMap {
	return template.FuncMap{
		"asset": a.url, "bytes": sizeText, "rate": rateText, "dur": durText, "ago": since, "stamp": stamp, "iso": iso,
		"serverName": serverName, "serverPath": serverPath, "seg": url.PathEscape, "list": list, "add": func(a, b int) int { return a + b },
		"mul": func(a, b int) int { return a * b }, "lower": strings.ToLower, "failedState": failedState, "plural": plural,
		"live": func(s job.State) bool { return s.Live() }, "join": strings.Join, "sev": func(s bus.Severity) string { return string(s) },
		"num": numText, "seconds": func(s float64) string { return durText(time.Duration(s * float64(time.Second))) }, "stampClock": func(t time.Time) template.HTML { return timeText(t, "hour") }, "tenths": func(n int) string { return fmt.Sprintf("%d.%d", n/10, n%10) }, "day": func(t time.Time) string { return t.UTC().Format("Mon 2 Jan 2006") },
	}
}

func list(v ...any) []any { return v }

// sizeText is a number of bytes for people.
func sizeText(n int64) string {
	if n < 0 {
		return "-" + sizeText(-n)
	}
	f, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	i := 0
	for f >= 999.5 && i < len(units)-1 {
		f /= 1024
		i++
	}
	switch {
	case i == 0:
		return fmt.Sprintf("%d B", n)
	case f < 9.995:
		return fmt.Sprintf("%.2f %s", f, units[i])
	case f < 99.95:
		return fmt.Sprintf("%.1f %s", f, units[i])
	}
	return fmt.Sprintf("%.0f %s", f, units[i])
}

func rateText(perSecond float64) string {
	if perSecond <= 0 || math.IsNaN(perSecond) || math.IsInf(perSecond, 0) {
		return "0 B/s"
	}
	return sizeText(int64(perSecond)) + "/s"
}

// durText is a duration in its two largest units.
func durText(d time.Duration) string {
	if d < 0 {
		return "-" + durText(-d)
	}
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", math.Floor(d.Seconds()))
	case d < time.Hour:
		return twoUnits(int(d.Seconds()), 60, "m", "s")
	case d < 48*time.Hour:
		return twoUnits(int(d.Minutes()), 60, "h", "m")
	}
	return twoUnits(int(d.Hours()), 24, "d", "h")
}

// twoUnits writes n small units, of which each make a large one.
func twoUnits(n, each int, large, small string) string {
	if n%each == 0 {
		return fmt.Sprintf("%d %s", n/each, large)
	}
	return fmt.Sprintf("%d %s %d %s", n/each, large, n%each, small)
}

func numText(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "\u2009" + s[i:] // thin spaces
	}
	return s
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

func iso(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// timeText writes a time so that it is right without a script (UTC), and so that the script of the page can say it in
// the reader's own zone.
func timeText(t time.Time, kind string) template.HTML {
	if t.IsZero() {
		return `<span class="none">–</span>`
	}
	return template.HTML(fmt.Sprintf(`<time datetime="%s" data-t="%s">%s</time>`, iso(t), kind, t.UTC().Format("2006-01-02 15:04:05 UTC")))
}

// stamp is a time as a time of day.
func stamp(t time.Time) template.HTML { return timeText(t, "at") }

// since is a time as how long ago it is, or how long it is until then.
func since(t time.Time) template.HTML { return timeText(t, "ago") }

// serverName is a server for people; the whole cluster is not a server.
func serverName(s job.Server) string {
	if s == (job.Server{}) {
		return "whole cluster"
	}
	return s.Addr()
}

// serverPath is a server in a path or a parameter of ours.
func serverPath(s job.Server) string { return url.PathEscape(s.Addr()) }
