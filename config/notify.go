package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Notify is who is notified of conditions, and how.
type Notify struct {
	Destinations []Destination // alert-destinations
	Routes       []Route       // alert-routes; empty = every destination gets warn and error of every cluster
	GroupWait    time.Duration // alert-group-wait
	Repeat       time.Duration // alert-repeat, 0 = never

	Script        string        // alert-script, resolved to a path; "" = none
	ScriptTimeout time.Duration // alert-script-timeout
	SlackURL      Secret        // alert-slack-url, "" = none
	Mail          Mail

	HeartbeatURL   Secret        // alert-heartbeat-url, "" = none
	HeartbeatEvery time.Duration // alert-heartbeat-every
}

// Destination is one place to notify, by its short name.
type Destination struct {
	Name string
	URL  Secret // as shoutrrr spells it
}

// Route sends conditions of at least a severity to a destination.
type Route struct {
	Destination string
	Severity    string   // least: "info", "warn" or "error"
	Clusters    []string // none = every cluster
}

// Mail is the destination `mail`; it exists when To is not empty.
type Mail struct {
	From, Addr, User string // mail-from, mail-smtp-addr, mail-smtp-user
	To               []string
	Password         Secret // mail-smtp-password
	SkipVerify       bool   // mail-smtp-tls-skip-verify
}

// The destinations that have keys of their own.
const (
	DestinationMail   = "mail"
	DestinationSlack  = "slack"
	DestinationScript = "script"
)

// Names lists every destination.
func (n Notify) Names() (names []string) {
	for _, d := range n.Destinations {
		names = append(names, d.Name)
	}
	if len(n.Mail.To) > 0 {
		names = append(names, DestinationMail)
	}
	if n.SlackURL != "" {
		names = append(names, DestinationSlack)
	}
	if n.Script != "" {
		names = append(names, DestinationScript)
	}
	return names
}

// notifyKeys adds who is notified, and how.
func notifyKeys(t *table, n *Notify) {
	t.destinations("alert-destinations", &n.Destinations,
		"Whom to notify: short names, each with a service URL of shoutrrr (docs/alerts.md). Mail, Slack and a script also have keys of their own below.")
	t.routes("alert-routes", &n.Routes,
		"What each destination gets: the least severity, and the clusters after @. Empty: every destination gets warn and error of every cluster.")
	t.duration("alert-group-wait", &n.GroupWait, 10*time.Second, bounds[time.Duration]{zero: "at once"},
		"How long conditions are gathered into one message of a destination.")
	t.duration("alert-repeat", &n.Repeat, 4*time.Hour, bounds[time.Duration]{min: time.Minute, zero: "never"},
		"How often an error that is still open is notified again, unless somebody acknowledged it.")
	t.text("alert-script", &n.Script, "", "an executable file",
		"Destination script: a program that gets each notification as JSON on its standard input.")
	t.duration("alert-script-timeout", &n.ScriptTimeout, 30*time.Second, bounds[time.Duration]{min: time.Second},
		"How long alert-script may run; then it is ended, and tried again.")
	t.secret("alert-slack-url", &n.SlackURL, "Destination slack: an incoming webhook of Slack, Mattermost or alike.")
	t.words("mail-to", &n.Mail.To, "list of addresses", "Destination mail: who gets it. Empty: nobody.")
	t.text("mail-from", &n.Mail.From, "drydock@localhost", "an address", "Sender of the mails.", notEmpty)
	t.text("mail-smtp-addr", &n.Mail.Addr, "localhost:25", "host:port", "Mail server.", listenAddress)
	t.text("mail-smtp-user", &n.Mail.User, "", "a name", "Account on the mail server. Empty: no login.")
	t.secret("mail-smtp-password", &n.Mail.Password, "Password of mail-smtp-user. It is sent over TLS only, or to this machine.")
	t.boolean("mail-smtp-tls-skip-verify", &n.Mail.SkipVerify, false, "Accept any certificate of the mail server.")
	t.secret("alert-heartbeat-url", &n.HeartbeatURL, "URL pinged regularly while notifications work and a scheduler answers: a dead-man's switch for drydock itself.")
	t.duration("alert-heartbeat-every", &n.HeartbeatEvery, time.Minute, bounds[time.Duration]{min: time.Second}, "How often alert-heartbeat-url is pinged.")
}

// destinations adds a list of name:URL. Errors never repeat the URL.
func (t *table) destinations(name string, p *[]Destination, doc string) {
	t.add(Key{Name: name, Values: "list of name:URL", Doc: doc, Secret: true}, func(v value, r resolver) error {
		var out []Destination
		for i, item := range v.split() {
			d, err := parseDestination(item, r)
			if err != nil {
				return fmt.Errorf("entry %d %w", i+1, err)
			}
			if slices.ContainsFunc(out, func(o Destination) bool { return o.Name == d.Name }) {
				return fmt.Errorf("names %q twice; remove one", d.Name)
			}
			out = append(out, d)
		}
		*p = out
		return nil
	})
}

func parseDestination(item string, r resolver) (d Destination, err error) {
	name, url, found := strings.Cut(item, ":")
	name = strings.TrimSpace(name)
	if !found || url == "" || strings.HasPrefix(url, "//") {
		return d, errors.New("is not name:URL; write it like oncall:env:ONCALL_URL (an URL that holds a comma: use a list or env:)")
	}
	if err := destinationName(name); err != nil {
		return d, err
	}
	d.Name = name
	d.URL, err = r(strings.TrimSpace(url))
	if err == nil && d.URL == "" {
		err = errors.New("has an empty URL")
	}
	return d, err
}

// destinationName permits what may stand in a route, a subject and a log line.
func destinationName(s string) error {
	ok := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' }
	if s == "" || len(s) > 32 || strings.ContainsFunc(s, func(r rune) bool { return !ok(r) }) {
		return errors.New("has no plain name; use up to 32 small letters, digits, - and _")
	}
	if slices.Contains([]string{DestinationMail, DestinationSlack, DestinationScript}, s) {
		return fmt.Errorf("is called %q, as the destination that has keys of its own; choose another name", s)
	}
	return nil
}

func (t *table) routes(name string, p *[]Route, doc string) {
	k := Key{Name: name, Values: "as in oncall: error @prod @shop; chat: warn", Doc: doc}
	t.add(k, func(v value, _ resolver) error { return store(p)(parseRoutes(strings.Join(v.items, ";"))) })
}

// parseRoutes reads `destination: severity @cluster ...; ...`.
func parseRoutes(text string) (out []Route, err error) {
	for rule := range strings.SplitSeq(text, ";") {
		if rule = strings.TrimSpace(rule); rule == "" {
			continue
		}
		destination, rest, found := strings.Cut(rule, ":")
		words := strings.Fields(rest)
		if !found || len(words) == 0 {
			return nil, fmt.Errorf("%q is no route; write it like oncall: error @prod", clip(rule))
		}
		r := Route{Destination: strings.TrimSpace(destination)}
		for i, word := range words {
			switch {
			case strings.HasPrefix(word, "@") && i > 0:
				r.Clusters = append(r.Clusters, word[1:])
			case i == 0:
				if strings.EqualFold(word, "warning") {
					word = "warn"
				}
				if r.Severity, err = oneOf(word, []string{"info", "warn", "error"}); err != nil {
					return nil, fmt.Errorf("route %q: %w", clip(rule), err)
				}
			default:
				return nil, fmt.Errorf("route %q: %q is no cluster; write @ before its name, and one severity", clip(rule), clip(word))
			}
		}
		out = append(out, r)
	}
	return out, nil
}

// checkNotify looks whether the routes name what there is.
func (l *loader) checkNotify(n *Notify, clusters []Cluster) {
	const key = "alert-routes"
	names := n.Names()
	unread := slices.ContainsFunc(l.problems, func(r remark) bool { return r.note.Key == "alert-destinations" })
	for _, r := range n.Routes {
		if !unread && !slices.Contains(names, r.Destination) {
			l.problem(l.where(key, nil), key, "names destination %q, which there is not; add it to alert-destinations", r.Destination)
		}
		for _, name := range r.Clusters {
			if !slices.ContainsFunc(clusters, func(c Cluster) bool { return c.Name == name }) {
				l.problem(l.where(key, nil), key, "names cluster %q, which there is not", name)
			}
		}
	}
	if len(n.Routes) == 0 {
		return
	}
	for _, name := range names {
		if !slices.ContainsFunc(n.Routes, func(r Route) bool { return r.Destination == name }) {
			l.warn(l.where(key, nil), key, "has no route for %q, so it is never notified", name)
		}
	}
}
