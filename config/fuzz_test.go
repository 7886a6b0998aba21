package config

import (
	"strings"
	"testing"
)

// FuzzParse looks for panics, and for what must hold of every configuration that passes.
func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(Sample()))
	f.Add([]byte("[Default]\nx = [1, \"2\", # c\n true]\n[a.b]\n[[c]]\n\"\" = 0x1F\n"))
	f.Add([]byte("\ufeff[p]\r\ndb-servers-hosts = \"[::1]:1,h\"\r\nscheduler-db-servers-logs-cron = \"TZ=\"\r\n"))
	f.Add([]byte("[p]\nscheduler-jobs-lease = \"1d99999999h\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if strings.Contains(string(data), "include") || strings.Contains(string(data), "file:") {
			t.Skip("would read files of this machine")
		}
		cfg, err := newLoader([]string{"DB_PASSWORD=x", "ADMIN_PASSWORD=y"}).load("fuzz.toml", data)
		if err != nil {
			if cfg != nil || !strings.HasPrefix(err.Error(), "fuzz.toml") {
				t.Errorf("error without its file: %v", err)
			}
			return
		}
		for _, c := range cfg.Clusters {
			if c.Password == "" || len(c.Servers) == 0 || strings.ContainsAny(c.Name, "./\x00") {
				t.Errorf("accepted %+v", c)
			}
			for _, s := range c.Servers {
				if s.Host == "" || strings.Contains(s.Host, "..") || strings.ContainsAny(s.Host, "/\\\x00 ") || s.Port < 1 || s.Port > 65535 {
					t.Errorf("accepted server %+v", s)
				}
			}
		}
	})
}

// FuzzDuration checks that what is written back reads the same.
func FuzzDuration(f *testing.F) {
	for _, s := range []string{"90s", "1h30m", "7d", "1d12h", "0", "65535d", "99999d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseDuration(s)
		if err != nil {
			return
		}
		again, err := parseDuration(formatDuration(d))
		if d < 0 || err != nil || again != d {
			t.Errorf("%q is %d, written %q, read %d, %v", s, d, formatDuration(d), again, err)
		}
	})
}
