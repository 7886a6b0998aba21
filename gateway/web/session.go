package web

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"drydock/gateway/auth"
)

// visit is one request of somebody who is signed in.
type visit struct {
	*http.Request
	out   http.ResponseWriter
	who   auth.Principal
	token string
	query url.Values
}

// cookieName differs between TLS and clear text: a browser keeps cookies per host and not per port, and would not let the
// page in clear replace a secure one.
func cookieName(r *http.Request) string {
	if r.TLS != nil {
		return "__Host-drydock"
	}
	return "drydock"
}

// CookieToken is the session's token in a request, "" for none.
func CookieToken(r *http.Request) string {
	c, err := r.Cookie(cookieName(r))
	if err != nil {
		return ""
	}
	return c.Value
}

func setCookie(out http.ResponseWriter, r *http.Request, token string) {
	c := &http.Cookie{
		Name: cookieName(r), Value: token, Path: "/", HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode,
	}
	if token == "" {
		c.MaxAge = -1
	}
	http.SetCookie(out, c)
}

// formField holds the proof that a form came from a page of the session.
const formField = "csrf"

// csrf is that proof. It is made from the session's token, which no other site can read, and does not give it away.
func csrf(token string) string {
	m := hmac.New(sha256.New, []byte(token))
	m.Write([]byte("drydock form"))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// genuine reports whether a request that changes something was made by a page of ours: it comes from the same origin, as
// browsers say themselves, and proves that its page was made for this session.
func (w *Web) genuine(r *http.Request, token string) bool {
	return w.forged.Check(r) == nil && hmac.Equal([]byte(r.PostFormValue(formField)), []byte(csrf(token)))
}

// maxForm bounds the body of a form, bytes.
const maxForm = 64 << 10

// signedIn wraps the handlers of those who are signed in. Others are sent to the login, with the way back.
func (w *Web) signedIn(h func(*visit) error) http.HandlerFunc {
	return func(out http.ResponseWriter, r *http.Request) {
		token := CookieToken(r)
		who, err := w.session(token)
		switch {
		case errors.Is(err, auth.ErrToken):
			w.turnAway(out, r)
			return
		case err != nil: // nobody can tell yet; the session may well be good
			out.Header().Set("Retry-After", "5")
			refuseStream(out, http.StatusServiceUnavailable, "drydock is starting; load the page again in a moment")
			return
		}
		w.want.Do(func() { close(w.wanted) })
		v := &visit{Request: r, out: out, who: who, token: token, query: r.URL.Query()}
		if r.Method == http.MethodPost {
			r.Body = http.MaxBytesReader(out, r.Body, maxForm)
			if !w.genuine(r, token) {
				w.log.Warn("form refused", "remote", r.RemoteAddr, "path", r.URL.Path, "user", who.Name)
				w.fail(v, &problem{http.StatusForbidden, "this form was not made for your session, or it came from another site; load the page again"})
				return
			}
		}
		if err := h(v); err != nil {
			w.fail(v, err)
		}
	}
}

// session is who a cookie stands for. The page is for people who logged in: a program's token opens none. Errors:
// [auth.ErrToken], or that drydock is starting.
func (w *Web) session(token string) (auth.Principal, error) {
	who, err := w.Verify(token)
	if err == nil && (who.Bound() || who.SessionID == "") {
		return auth.Principal{}, auth.ErrToken
	}
	return who, err
}

func (w *Web) turnAway(out http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet || strings.HasPrefix(r.URL.Path, "/live/") {
		refuseStream(out, http.StatusUnauthorized, "sign in first")
		return
	}
	to := "/login"
	if r.URL.Path != "/" {
		to += "?next=" + url.QueryEscape(r.URL.RequestURI())
	}
	http.Redirect(out, r, to, http.StatusSeeOther)
}

// refuseStream answers a request whose answer nobody reads; the script of the page sees the status.
func refuseStream(out http.ResponseWriter, status int, text string) {
	out.Header().Set("HX-Reswap", "none")
	http.Error(out, text, status)
}

// localPath is where to go after the login: a path of this server, whatever the link said.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") ||
		strings.ContainsAny(next, "\\\r\n\t") || strings.HasPrefix(next, "/login") {
		return "/"
	}
	return next
}

// loginPage is what the form of the login shows.
type loginPage struct {
	Next, User, Problem string
}

func (w *Web) showLogin(out http.ResponseWriter, r *http.Request) {
	if _, err := w.session(CookieToken(r)); err == nil {
		http.Redirect(out, r, "/", http.StatusSeeOther)
		return
	}
	w.renderLogin(out, http.StatusOK, loginPage{Next: localPath(r.URL.Query().Get("next"))})
}

// login asks the API for a token, as every program does: it checks the password, and counts failures.
func (w *Web) login(out http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(out, r.Body, maxForm)
	p := loginPage{Next: localPath(r.PostFormValue("next")), User: r.PostFormValue("username")}
	if w.forged.Check(r) != nil {
		p.Problem = "this form came from another site"
		w.renderLogin(out, http.StatusForbidden, p)
		return
	}
	body, _ := json.Marshal(map[string]string{"username": p.User, "password": r.PostFormValue("password")})
	var answer struct {
		Token string `json:"token"`
	}
	err := w.call(r, "", http.MethodPost, "/api/login", body, &answer)
	var refused *problem
	switch {
	case errors.As(err, &refused):
		p.Problem = refused.text
		if refused.status == http.StatusUnauthorized {
			p.Problem = "wrong user or password"
		}
		if wait := (*later)(nil); errors.As(err, &wait) {
			out.Header().Set("Retry-After", wait.wait)
		}
		w.renderLogin(out, refused.status, p)
	case err != nil:
		p.Problem = "the login cannot be checked now; try again"
		w.renderLogin(out, http.StatusServiceUnavailable, p)
	default:
		setCookie(out, r, answer.Token)
		http.Redirect(out, r, p.Next, http.StatusSeeOther)
	}
}

// logout ends the session everywhere: the token is no good after it.
func (w *Web) logout(v *visit) error {
	err := w.call(v.Request, v.token, http.MethodPost, "/api/logout", nil, nil)
	if err != nil {
		return err // the session is still good: better that its owner knows
	}
	setCookie(v.out, v.Request, "")
	http.Redirect(v.out, v.Request, "/login", http.StatusSeeOther)
	return nil
}

// problem is what went wrong, for the person at the page.
type problem struct {
	status int
	text   string
}

func (p *problem) Error() string { return p.text }

// later is a problem that will be none after a while.
type later struct {
	*problem
	wait string // of Retry-After, seconds
}

// Unwrap gives the problem.
func (l *later) Unwrap() error { return l.problem }

func notFound(what string) *problem { return &problem{http.StatusNotFound, "no such " + what} }

// call asks the REST API, in this process, with a session's token, and reads the answer into out. Errors: *problem with
// the API's own words.
func (w *Web) call(r *http.Request, token, method, path string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(context.WithoutCancel(r.Context()), method, path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask the API: %w", err)
	}
	req.RemoteAddr, req.Host, req.TLS = r.RemoteAddr, r.Host, r.TLS
	req.Header.Set("User-Agent", "drydock-page")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	rec := &recorder{header: http.Header{}, status: http.StatusOK}
	w.API.ServeHTTP(rec, req)
	if rec.status >= 300 {
		var e struct {
			Error struct {
				Message string `json:"message"`
			} `json:"error"`
		}
		if json.Unmarshal(rec.body.Bytes(), &e) != nil || e.Error.Message == "" {
			e.Error.Message = http.StatusText(rec.status)
		}
		p := &problem{rec.status, e.Error.Message}
		if wait := rec.header.Get("Retry-After"); wait != "" {
			return &later{p, wait}
		}
		return p
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(rec.body.Bytes(), out); err != nil {
		return fmt.Errorf("read the answer of %s: %w", path, err)
	}
	return nil
}

// recorder takes the answer of the API.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

// note is the sentence that the next page shows after an action.
type note struct {
	Bad  bool   `json:"bad,omitempty"`
	Text string `json:"text"`
}

const noteCookie = "drydock-note"

// maxNote is the longest sentence, bytes: a browser drops a cookie of 4 KiB, and the sentence with it.
const maxNote = 2000

// after ends an action: the browser goes to a page, which says what became of it.
func (v *visit) after(to string, n note) error {
	if len(n.Text) > maxNote {
		n.Text = strings.ToValidUTF8(n.Text[:maxNote], "") + " ..."
	}
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	http.SetCookie(v.out, &http.Cookie{
		Name: noteCookie, Value: base64.RawURLEncoding.EncodeToString(data), Path: "/", HttpOnly: true, Secure: v.TLS != nil,
		SameSite: http.SameSiteStrictMode, MaxAge: 60,
	})
	http.Redirect(v.out, v.Request, to, http.StatusSeeOther)
	return nil
}

// act does an action of the API and goes to a page.
func (w *Web) act(v *visit, method, path string, body []byte, to, done string) error {
	return w.finish(v, w.call(v.Request, v.token, method, path, body, nil), to, done)
}

// finish tells what became of an action.
func (w *Web) finish(v *visit, err error, to, done string) error {
	var refused *problem
	switch {
	case errors.As(err, &refused):
		return v.after(to, note{true, refused.text})
	case err != nil:
		return err
	}
	return v.after(to, note{Text: done})
}

// takeNote reads the sentence of the last action and forgets it.
func (v *visit) takeNote() *note {
	c, err := v.Cookie(noteCookie)
	if err != nil {
		return nil
	}
	http.SetCookie(v.out, &http.Cookie{Name: noteCookie, Path: "/", HttpOnly: true, Secure: v.TLS != nil, SameSite: http.SameSiteStrictMode, MaxAge: -1})
	data, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil {
		return nil
	}
	var n note
	if json.Unmarshal(data, &n) != nil || n.Text == "" {
		return nil
	}
	return &n
}
