package web

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"drydock/gateway/auth"
	"drydock/internal/bustest"
	"drydock/job"
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

// A stream that ended because too many logs are followed was opened anew at once, for ever: it has to stay, say so, and have the log
// when there is room.
func TestALogThatCannotBeFollowedKeepsItsStream(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t)
	tails := newTails(conn, bustest.Log(t))
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { cancel(); tails.wg.Wait() })
	tails.base = ctx
	for i := range tailsMax {
		tails.open[fmt.Sprint(i)] = &tail{cancel: func() {}}
	}
	w := &Web{tails: tails, pages: map[string]*page{}}
	data := &jobPage{Job: job.Job{ID: "65th", Cluster: "<b>", Task: "optimize", Server: job.Server{Host: "h", Port: 1}}}
	site := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		v, s, e := &visit{Request: r, query: url.Values{}}, newHub().join(topicJobs, nil), &events{rc: http.NewResponseController(out), out: out}
		follow := newLogFollow(w)
		err := errors.Join(e.begin(), follow.join(v, data, s, e), follow.join(v, data, s, e))
		tails.sweep(time.Now())
		err = errors.Join(err, follow.join(v, data, s, e))
		if follow.leave(); err != nil {
			t.Error(err)
		}
	}))
	defer site.Close()
	res, err := http.Get(site.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	said, err := io.ReadAll(res.Body)
	full, free := strings.Index(string(said), errTails.Error()), strings.Index(string(said), `hx-swap="innerHTML"></hx-partial>`)
	if err != nil || full < 0 || free < full || strings.Count(string(said), "log-note") != 2 {
		t.Errorf("%v: %s", err, said)
	}
}
