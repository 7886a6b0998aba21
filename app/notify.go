package app

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"drydock/alert/notify"
	"drydock/bus"
	"drydock/config"
)

// SendCommand is the hidden command of drydock that sends one message ([notify.SendMain]).
const SendCommand = "send-notification"

// sendTimeout bounds one try of a service.
const sendTimeout = 30 * time.Second

func notifyConfig(cfg *config.Config, name string, log *slog.Logger) notify.Config {
	n := cfg.Global.Notify
	out := notify.Config{
		Actor: actor(RoleAlert, name), Log: log.With("component", "notify"), GroupWait: n.GroupWait, Repeat: n.Repeat,
		Sender: []string{ownBinary(), SendCommand}, HeartbeatURL: n.HeartbeatURL.Reveal(), HeartbeatEvery: n.HeartbeatEvery,
	}
	for _, d := range destinationsOf(n) {
		d.Routes, d.Unrouted = routesOf(n, d.Name), !routed(n, d.Name)
		out.Destinations = append(out.Destinations, d)
	}
	for _, c := range cfg.Clusters {
		x := notify.Cluster{Name: c.Name, PingURL: c.PingURL.Reveal(), QuietFor: c.AlertDisableTime, Zone: c.Timezone}
		if c.AlertDisable.Enabled {
			x.QuietCron = c.AlertDisable.Cron
		}
		out.Clusters = append(out.Clusters, x)
	}
	return out
}

// ownBinary is the program that runs now, also after its file was replaced.
func ownBinary() string {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe"
	}
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return path
}

// DestinationNames are the names of all that can be notified.
func DestinationNames(cfg *config.Config) (names []string) {
	for _, d := range destinationsOf(cfg.Global.Notify) {
		names = append(names, d.Name)
	}
	return names
}

// destinationsOf are the destinations without their routes.
func destinationsOf(n config.Notify) (out []notify.Destination) {
	for _, d := range n.Destinations {
		out = append(out, notify.Destination{Name: d.Name, URL: d.URL.Reveal(), Timeout: sendTimeout})
	}
	if len(n.Mail.To) > 0 {
		out = append(out, notify.Destination{Name: config.DestinationMail, URL: mailURL(n.Mail), Timeout: sendTimeout})
	}
	if n.SlackURL != "" {
		out = append(out, notify.Destination{Name: config.DestinationSlack, URL: webhookURL(n.SlackURL.Reveal()), Timeout: sendTimeout})
	}
	if n.Script != "" {
		out = append(out, notify.Destination{Name: config.DestinationScript, Program: n.Script, Timeout: n.ScriptTimeout})
	}
	return out
}

func routesOf(n config.Notify, name string) (out []notify.Route) {
	for _, r := range n.Routes {
		if r.Destination == name {
			out = append(out, notify.Route{Severity: bus.Severity(r.Severity), Clusters: r.Clusters})
		}
	}
	return out
}

// routed reports whether anything is ever sent to a destination.
func routed(n config.Notify, name string) bool {
	return len(n.Routes) == 0 || slices.ContainsFunc(n.Routes, func(r config.Route) bool { return r.Destination == name })
}

// mailURL spells the mail-* keys as the library wants them. A password goes over TLS only, or to this machine.
func mailURL(m config.Mail) string {
	host, _, _ := net.SplitHostPort(m.Addr) // checked by config
	ip := net.ParseIP(host)
	near := host == "" || host == "localhost" || ip != nil && ip.IsLoopback()
	q := url.Values{"from": {m.From}, "to": {strings.Join(m.To, ",")}, "fromname": {"drydock"}, "auth": {"None"}, "timeout": {"20s"}}
	u := url.URL{Scheme: "smtp", Host: m.Addr, Path: "/"}
	if m.User != "" {
		u.User = url.UserPassword(m.User, m.Password.Reveal())
		q.Set("auth", "Plain")
		if !near {
			q.Set("requirestarttls", "yes")
		}
	}
	if m.SkipVerify {
		q.Set("skiptlsverify", "yes")
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// webhookURL has the library post {"text": ...} to a webhook as Slack's.
func webhookURL(target string) string {
	sep := "?"
	if strings.Contains(target, "?") {
		sep = "&"
	}
	return "generic+" + target + sep + "template=json&messagekey=text"
}

// checkNotifications looks at each destination without asking it.
func checkNotifications(cfg *config.Config) (items []Item) {
	n := cfg.Global.Notify
	for _, d := range destinationsOf(n) {
		it := Item{OK, "notifications: " + d.Name, described(n, d.Name), ""}
		switch {
		case d.Program != "":
			if info, err := os.Stat(d.Program); err != nil {
				it = Item{Fail, it.Name, err.Error(), "give alert-script the path of a program"}
			} else if info.IsDir() || info.Mode()&0o111 == 0 {
				it = Item{Fail, it.Name, d.Program + " cannot be executed", "chmod +x it"}
			}
		default:
			if err := notify.CheckURL(d.URL); err != nil {
				it = Item{Fail, it.Name, err.Error(), "see docs/alerts.md"}
			}
		}
		items = append(items, it)
	}
	if len(items) == 0 {
		items = append(items, Item{OK, "notifications", "nobody is notified: no destination is set", ""})
	}
	return items
}

// described says what a destination gets.
func described(n config.Notify, name string) string {
	var gets []string
	for _, r := range n.Routes {
		if r.Destination != name {
			continue
		}
		of := "all clusters"
		if len(r.Clusters) > 0 {
			of = strings.Join(r.Clusters, ", ")
		}
		gets = append(gets, fmt.Sprintf("%s and above of %s", r.Severity, of))
	}
	switch {
	case !routed(n, name):
		return "gets nothing: alert-routes does not name it"
	case len(gets) == 0:
		return "gets warn and above of all clusters"
	}
	return "gets " + strings.Join(gets, "; ")
}
