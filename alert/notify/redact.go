package notify

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// redactor takes the secrets of destinations out of what services and programs say. Their URLs are secrets, and libraries
// put URLs into errors.
type redactor struct{ secrets []string } // the longest first

const (
	hidden = "[secret]"
	// shortest is how many bytes a part of a URL must have to be looked for: below that it would hit ordinary words.
	shortest = 4
)

var urlForm = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*:/+[^\s"'<>]+`)

// addressKeys of a mail's URL are no secrets, and who was refused is worth knowing.
var addressKeys = []string{"to", "toaddresses", "from", "fromaddress"}

func newRedactor(urls ...string) *redactor {
	found := map[string]bool{}
	add := func(s string) {
		for _, form := range []string{s, url.QueryEscape(s), url.PathEscape(s)} {
			if len(form) >= shortest {
				found[form] = true
			}
		}
	}
	for _, raw := range urls {
		if raw == "" {
			continue
		}
		add(raw)
		u, err := url.Parse(raw)
		if err != nil {
			continue
		}
		if u.User != nil {
			add(u.User.Username())
			password, _ := u.User.Password()
			add(password)
			for _, part := range strings.FieldsFunc(u.User.Username()+":"+password, func(r rune) bool { return r == ':' || r == '-' }) {
				if len(part) >= 2*shortest {
					add(part)
				}
			}
		}
		for part := range strings.SplitSeq(u.EscapedPath(), "/") {
			add(part)
			if plain, err := url.PathUnescape(part); err == nil {
				add(plain)
			}
		}
		for key, values := range u.Query() {
			for _, v := range values {
				if len(v) >= 2*shortest && !(u.Scheme == "smtp" && slices.Contains(addressKeys, key)) {
					add(v)
				}
			}
		}
	}
	r := &redactor{}
	for s := range found {
		r.secrets = append(r.secrets, s)
	}
	slices.SortFunc(r.secrets, func(a, b string) int { return len(b) - len(a) })
	return r
}

// clean is s on one line, without URLs and secrets, and not long.
func (r *redactor) clean(s string) string {
	for _, secret := range r.secrets {
		s = strings.ReplaceAll(s, secret, hidden)
	}
	s = urlForm.ReplaceAllString(s, "[url]")
	return cut(strings.Join(strings.Fields(plain(s)), " "), mostLine)
}
