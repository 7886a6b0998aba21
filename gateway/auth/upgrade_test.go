package auth

import (
	"os"
	"strings"
	"testing"
	"time"

	"drydock/store"
)

// known is a directory with one user of the bus.
type known struct{ u store.User }

func (k known) User(name string) (store.User, bool) { return k.u, name == k.u.Name }
func (k known) Token(hash string) (string, store.Token, bool) {
	return k.u.Name, k.u.Tokens[0], hash == k.u.Tokens[0].Hash
}

// Scripts log in once and work for days: a drydock that is upgraded under them must know the tokens and password hashes of
// the one before. The samples in testdata were written by version 1 with the key and passwords below.
func TestTokensAndHashesOfEarlierVersionsServe(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 26, 6, 0, 0, 0, time.UTC)
	cfg := Config{
		Users: map[string]string{"admin": "sample"}, Grants: map[string][]string{"admin": {"db"}},
		Secrets: map[string]string{"prod": "sample"}, Now: func() time.Time { return at },
	}
	key := []byte("a key of thirty-two bytes, or 33")
	if os.Getenv("DRYDOCK_SAMPLES") != "" { // only for what no released version wrote
		a, err := New(key, cfg)
		if err != nil {
			t.Fatal(err)
		}
		system, err := a.System("prod", "db1:3306")
		if err != nil {
			t.Fatal(err)
		}
		session, err := a.Login("admin", "sample")
		if err != nil {
			t.Fatal(err)
		}
		hash, err := a.Hash("a sample password")
		if err != nil {
			t.Fatal(err)
		}
		_, api := NewToken("ci", nil, at.Add(time.Hour))
		if err := os.WriteFile("testdata/v1.txt", []byte(strings.Join([]string{system, session, hash, api}, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile("testdata/v1.txt")
	if err != nil {
		t.Fatal(err)
	}
	s := strings.Fields(string(text))
	cfg.Directory = known{store.User{Name: "dana", Hash: s[2], Grants: []string{"db"}, Tokens: []store.Token{{ID: "x", Name: "ci", Hash: TokenHash(s[3]), Expires: at.Add(time.Hour)}}}}
	a, err := New(key, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := a.Verify(s[0]); err != nil || !p.May("prod", "db1:3306", Jobs) || p.May("prod", "db2:3306", Jobs) {
		t.Errorf("token of a script: %+v, %v", p, err)
	}
	if p, err := a.Verify(s[1]); err != nil || p.Name != "admin" || p.SessionID == "" {
		t.Errorf("session: %+v, %v", p, err)
	}
	if _, err := a.Password("dana", "a sample password"); err != nil {
		t.Errorf("password: %v", err)
	}
	if p, err := a.Verify(s[3]); err != nil || p.Name != "dana" || p.TokenID != "x" {
		t.Errorf("API token: %+v, %v", p, err)
	}
}
