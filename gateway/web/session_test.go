package web

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"drydock/gateway/auth"
)

// TestNobodyIsSignedOutByAStart: while a gateway reads the users it cannot tell, and must not say that the session is over.
func TestNobodyIsSignedOutByAStart(t *testing.T) {
	t.Parallel()
	w := &Web{Deps: Deps{Verify: func(string) (auth.Principal, error) { return auth.Principal{}, errors.New("starting") }}}
	for _, path := range []string{"/", "/live/fleet"} {
		out := httptest.NewRecorder()
		w.signedIn(func(*visit) error { t.Error("it is let in"); return nil })(out, httptest.NewRequest(http.MethodGet, path, nil))
		if out.Code != http.StatusServiceUnavailable || out.Header().Get("Location") != "" {
			t.Errorf("%s: %d to %q", path, out.Code, out.Header().Get("Location"))
		}
	}
}

// TestALongSentenceFitsItsCookie: a browser drops a cookie that is too long, and nobody learns what became of the action.
func TestALongSentenceFitsItsCookie(t *testing.T) {
	t.Parallel()
	out := httptest.NewRecorder()
	v := &visit{Request: httptest.NewRequest(http.MethodPost, "/", nil), out: out}
	if err := v.after("/", note{Text: strings.Repeat("not on dб1: busy; ", 1000)}); err != nil {
		t.Fatal(err)
	}
	cookie := out.Result().Cookies()[0]
	data, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	var n note
	if err != nil || json.Unmarshal(data, &n) != nil || !strings.HasPrefix(n.Text, "not on ") || !utf8.ValidString(n.Text) {
		t.Errorf("the cookie holds %q, %v", data, err)
	}
	if size := len(out.Header().Get("Set-Cookie")); size > 4000 {
		t.Errorf("the cookie has %d bytes", size)
	}
}

// TestTheCheckTellsOfOnesOwnClustersOnly: an item names hosts, and a note on the configuration may name any cluster.
func TestTheCheckTellsOfOnesOwnClustersOnly(t *testing.T) {
	t.Parallel()
	a, err := auth.New(make([]byte, 32), auth.Config{
		Users: map[string]string{"all": "x", "one": "x"}, Grants: map[string][]string{"all": {"db"}},
		ClusterGrants: map[string]map[string][]string{"mine": {"one": {"db"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &Web{cfg: Config{Clusters: []Cluster{{Name: "mine"}, {Name: "other"}}}, known: map[string]Cluster{"mine": {}, "other": {}}}
	for user, hidden := range map[string]map[string]bool{
		"all": {}, "one": {"other: db1:3306": true, "configuration": true},
	} {
		who, err := a.Password(user, "x")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"mine: db1:3306", "other: db1:3306", "configuration", "bus"} {
			if got := w.hides(&visit{who: who}, CheckItem{Name: name}); got != hidden[name] {
				t.Errorf("%s: %s is hidden: %v", user, name, got)
			}
		}
	}
}
