package bus

import (
	"regexp"
	"strings"
	"testing"
)

var kvKey = regexp.MustCompile(`^[-/_=\.a-zA-Z0-9]+$`) // what NATS accepts as a bucket key

func TestServerTokenIsTheOneOthersRelyOn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		host string
		port int
		want string
	}{
		{"10.0.1.5", 3306, "10_0_1_5.3306"},
		{"DB-01.example.com", 3307, "db-01_example_com.3307"},
		{"db_01", 1, "db=5F01.1"},
		{"::1", 3306, "=3A=3A1.3306"},
		{"*", 1, "=2A.1"},
	} {
		if got := ServerToken(c.host, c.port); got != c.want {
			t.Errorf("ServerToken(%q, %d) = %q, want %q", c.host, c.port, got, c.want)
		}
	}
	if got := JobSubject("prod", "10.0.1.5", 3306, "optimize"); got != "drydock.job.prod.10_0_1_5.3306.optimize" {
		t.Error(got)
	}
	if got := JobSubject("prod", "", 0, "rollingrestart"); got != "drydock.job.prod._.0.rollingrestart" {
		t.Error(got)
	}
	if got := AlertSubject("prod", "10.0.1.5", 3306, "DOCK0101-errorlog"); got != "drydock.alert.prod.10_0_1_5.3306.DOCK0101-errorlog" {
		t.Error(got)
	}
	if got := AlertSubject("prod", "", 0, "WARN0101"); got != "drydock.alert.prod._.WARN0101" {
		t.Error(got)
	}
}

func TestNoNameBecomesAWildcardOrASecondToken(t *testing.T) {
	t.Parallel()
	for _, evil := range []string{"*", ">", "a.b", "a b", "", "ü", "a*"} {
		s := JobSubject(evil, evil, 1, "optimize")
		if strings.ContainsAny(s, "*> ") || strings.Count(s, ".") != 5 {
			t.Errorf("cluster and host %q give subject %q", evil, s)
		}
	}
}

func FuzzServerToken(f *testing.F) {
	for _, h := range []string{"10.0.1.5", "db_01", "::1", "=", "_", "ä.b"} {
		f.Add(h, 3306)
	}
	f.Fuzz(func(t *testing.T, host string, port int) {
		if host == "" {
			return
		}
		tok := ServerToken(host, port)
		if !kvKey.MatchString(tok) || strings.Count(tok, ".") != 1 {
			t.Fatalf("%q:%d gives %q, no pair of tokens", host, port, tok)
		}
		h, p, err := ParseServerToken(tok)
		if err != nil || h != strings.ToLower(host) && ServerToken(h, p) != tok || p != port {
			t.Fatalf("%q:%d does not come back from %q: %q %d %v", host, port, tok, h, p, err)
		}
	})
}
