package bus

import (
	"strings"
	"testing"
)

// FuzzNames looks for names from outside that become a wildcard, two tokens, or somebody else's subject, key or file.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"prod", "a.b", "*", ">", "a b", "_", "=5F", "ä", "\x00", "..", "/", "%", "a\tb", "=", "=2E", strings.Repeat("x", 300)} {
		f.Add(s, "other")
		f.Add(s, strings.ToUpper(s))
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if a == "" || b == "" {
			return // configuration and routes know no empty names
		}
		for name, make := range map[string]func(string) string{
			"cluster of a job": func(s string) string { return JobSubject(s, "h", 1, "optimize") },
			"host of a job":    func(s string) string { return JobSubject("c", s, 1, "optimize") },
			"tick":             func(s string) string { return TaskSubject(s, "optimize") },
			"log":              func(s string) string { return LogSubject(s, "h", 1, "optimize", "INFO") },
			"alert":            func(s string) string { return AlertSubject("c", "h", 1, s) },
			"audit cluster":    func(s string) string { return AuditSubject(s, "run") },
			"audit verb":       func(s string) string { return AuditSubject("", s) },
			"notification":     NotificationSubject,
			"receiver":         func(s string) string { return ReceiverSubject(s, "open") },
			"user":             UserKey,
			"control":          func(s string) string { return ControlKey(s, "hold") },
			"segment":          func(s string) string { return BinlogKey("c", "h", 1, s) },
			"cluster of a key": func(s string) string { return StateKey(s, "h", 1, "_facts") },
		} {
			x, y := make(a), make(b)
			if !kvKey.MatchString(x) || strings.Contains(x, "..") || strings.HasPrefix(x, ".") || strings.HasSuffix(x, ".") {
				t.Fatalf("%s of %q is %q: no subject", name, a, x)
			}
			if strings.Count(x, ".") != strings.Count(make("plain"), ".") {
				t.Fatalf("%s of %q is %q: more than one token", name, a, x)
			}
			same := a == b
			if name == "host of a job" {
				//lint:ignore SA6005 it folds more than lower case: ſ is s to it
				same = strings.ToLower(a) == strings.ToLower(b)
			}
			if (x == y) != same {
				t.Fatalf("%s: %q and %q are %q and %q", name, a, b, x, y)
			}
		}
		if file := FileToken(a); strings.ContainsAny(file, "/\\\x00") || strings.HasPrefix(file, ".") || (file == FileToken(b)) != (a == b) {
			t.Fatalf("the file of %q is %q, of %q %q", a, file, b, FileToken(b))
		}
	})
}
