package auth_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"drydock/gateway/auth"
)

var key = bytes.Repeat([]byte{7}, 32)

func newAuth(t *testing.T, cfg auth.Config) *auth.Auth {
	t.Helper()
	a, err := auth.New(key, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestLoginSaysTheSameForAnUnknownUserAndAWrongPassword(t *testing.T) {
	t.Parallel()
	a := newAuth(t, auth.Config{Users: map[string]string{"dba": "s3cret"}})
	for _, c := range [][2]string{{"dba", "wrong"}, {"nobody", "s3cret"}, {"nobody", ""}, {"", ""}, {"dba", ""}, {"system", ""}} {
		if token, err := a.Login(c[0], c[1]); token != "" || !errors.Is(err, auth.ErrCredentials) || err.Error() != auth.ErrCredentials.Error() {
			t.Errorf("Login(%q, %q) = %q, %v", c[0], c[1], token, err)
		}
	}
	token, err := a.Login("dba", "s3cret")
	if err != nil {
		t.Fatal(err)
	}
	if p, err := a.Verify(token); err != nil || p.Name != "dba" || p.Bound() {
		t.Errorf("Verify = %+v, %v", p, err)
	}
}

func TestGrantWordCoversWhatStartsWithIt(t *testing.T) {
	t.Parallel()
	a := newAuth(t, auth.Config{
		Users:         map[string]string{"admin": "a", "dba": "b", "web": "c", "none": "d", "blank": "e"},
		Grants:        map[string][]string{"admin": {"cluster", "db", "prov", "proxy"}, "dba": {"db-back", "db-jobs"}, "web": {"proxy"}, "blank": {""}},
		ClusterGrants: map[string]map[string][]string{"prod": {"dba": {"db-logs"}, "web": {}}},
	})
	for _, c := range []struct {
		user, password, cluster, grant string
		want                           bool
	}{
		{"admin", "a", "prod", auth.Jobs, true},
		{"admin", "a", "prod", auth.Backup, true},
		{"dba", "b", "test", auth.Backup, true},
		{"dba", "b", "test", auth.Logs, false},
		{"dba", "b", "prod", auth.Backup, false},
		{"dba", "b", "prod", auth.Logs, true},
		{"web", "c", "test", auth.Jobs, false},
		{"none", "d", "test", auth.Jobs, false},
		{"blank", "e", "test", auth.Jobs, false},
	} {
		token, err := a.Login(c.user, c.password)
		if err != nil {
			t.Fatal(err)
		}
		p, err := a.Verify(token)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.May(c.cluster, "db1:3306", c.grant); got != c.want {
			t.Errorf("%s may %s on %s: %v", c.user, c.grant, c.cluster, got)
		}
		if reads := c.user != "none" && c.user != "blank"; p.MayRead("test") != reads {
			t.Errorf("%s may read: %v", c.user, !reads)
		}
		if c.user == "web" && p.MayRead("prod") {
			t.Error("an empty override on a cluster takes nothing away")
		}
	}
}

func TestSystemTokenServesOnlyItsOwnServer(t *testing.T) {
	t.Parallel()
	a := newAuth(t, auth.Config{Secrets: map[string]string{"prod": "db secret"}})
	token, err := a.System("prod", "db1:3306")
	if err != nil {
		t.Fatal(err)
	}
	p, err := a.Verify(token)
	if err != nil {
		t.Fatal(err)
	}
	if !p.May("prod", "db1:3306", auth.Jobs) || !p.MayJobs("prod") {
		t.Error("not allowed on its own server")
	}
	if p.May("prod", "db2:3306", auth.Jobs) || p.May("test", "db1:3306", auth.Jobs) || p.May("prod", "", auth.Jobs) || p.MayJobs("test") || p.MayRead("prod") {
		t.Error("allowed beyond its own server")
	}
	if p.May("prod", "db1:3306", "prov") {
		t.Error("the grants are db and proxy only")
	}
}

func TestForgedExpiredAndForeignTokensAreRefused(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	a := newAuth(t, auth.Config{Users: map[string]string{"dba": "x"}, Lifetime: time.Hour, Now: func() time.Time { return now }})
	good, err := a.Login("dba", "x")
	if err != nil {
		t.Fatal(err)
	}
	other, err := auth.New(bytes.Repeat([]byte{8}, 32), auth.Config{Users: map[string]string{"dba": "x"}})
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.Login("dba", "x")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + parts[1] + "."
	admin := parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"admin","exp":9999999999}`)) + "." + parts[2]
	for name, token := range map[string]string{"empty": "", "text": "abc", "foreign key": foreign, "alg none": none, "changed claims": admin, "no signature": parts[0] + "." + parts[1] + "."} {
		if p, err := a.Verify(token); !errors.Is(err, auth.ErrToken) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	if _, err := a.Verify(good); err != nil {
		t.Error(err)
	}
	now = now.Add(time.Hour)
	if _, err := a.Verify(good); !errors.Is(err, auth.ErrToken) {
		t.Errorf("a token that was seen before it expired: %v", err)
	}
}

func TestAScriptsTokenOutlivesItsLongestBackup(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	a := newAuth(t, auth.Config{Secrets: map[string]string{"prod": "db secret"}, Lifetime: time.Hour, Now: func() time.Time { return now }})
	token, err := a.System("prod", "db1:3306")
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(48 * time.Hour)
	if _, err := a.Verify(token); err != nil {
		t.Error("a shell client cannot log in again in the middle of a backup:", err)
	}
	now = now.Add(7 * 24 * time.Hour)
	if _, err := a.Verify(token); !errors.Is(err, auth.ErrToken) {
		t.Errorf("it never expires: %v", err)
	}
}

// A drydock before tokens were bound to the password gave out such ones: the script in the middle of a backup has no other when
// drydock is upgraded. Nobody else gets in with one, and no script longer than it would have.
func TestAScriptsTokenOutlivesTheUpgrade(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	cfg := auth.Config{
		Users: map[string]string{"dba": "x"}, Secrets: map[string]string{"prod": "db secret"}, Now: func() time.Time { return now },
		First: map[string]string{"prod": auth.SecretDigest(key, "prod", "db secret")},
	}
	a := newAuth(t, cfg)
	old := func(claims jwt.MapClaims) string {
		claims["iat"], claims["exp"] = now.Unix(), now.Add(7*24*time.Hour).Unix()
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	script := old(jwt.MapClaims{"sub": "system", "cluster": "prod", "server": "db1:3306"})
	if who, err := a.Verify(script); err != nil || !who.May("prod", "db1:3306", auth.Jobs) || who.May("prod", "db2:3306", auth.Jobs) {
		t.Errorf("%+v, %v", who, err)
	}
	for name, claims := range map[string]jwt.MapClaims{
		"a user's":                {"sub": "dba"},
		"another name":            {"sub": "dba", "cluster": "prod", "server": "db1:3306"},
		"of a cluster that is no": {"sub": "system", "cluster": "gone", "server": "db1:3306"},
		"bound to something else": {"sub": "system", "cluster": "prod", "server": "db1:3306", "jti": "x", "bnd": "y"},
		"of a login, unbound":     {"sub": "system", "cluster": "prod", "server": "db1:3306", "jti": "x"},
	} {
		if who, err := a.Verify(old(claims)); !errors.Is(err, auth.ErrToken) {
			t.Errorf("%s: %+v, %v", name, who, err)
		}
	}
	cfg.Secrets = map[string]string{"prod": "another"}
	if who, err := newAuth(t, cfg).Verify(script); !errors.Is(err, auth.ErrToken) {
		t.Errorf("it outlives the password: %+v, %v", who, err)
	}
	cfg.Secrets["prod"], cfg.First = "db secret", nil
	if who, err := newAuth(t, cfg).Verify(script); !errors.Is(err, auth.ErrToken) {
		t.Errorf("nobody knows the password that it was given out for: %+v, %v", who, err)
	}
	now = now.Add(8 * 24 * time.Hour)
	if _, err := a.Verify(script); !errors.Is(err, auth.ErrToken) {
		t.Errorf("it never expires: %v", err)
	}
}

func TestTokenOfARemovedUserIsRefused(t *testing.T) {
	t.Parallel()
	token, err := newAuth(t, auth.Config{Users: map[string]string{"dba": "x"}}).Login("dba", "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newAuth(t, auth.Config{Users: map[string]string{"other": "x"}}).Verify(token); !errors.Is(err, auth.ErrToken) {
		t.Errorf("got %v", err)
	}
}

func TestShortKeyIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := auth.New([]byte("short"), auth.Config{}); err == nil {
		t.Error("a short key was taken")
	}
}
