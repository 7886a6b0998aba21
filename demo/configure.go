package demo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"text/template"
	"time"

	"drydock/config"
)

// The environment variables that the configuration names.
const (
	envPassword    = "DEMO_DB_PASSWORD"
	envAPIPassword = "DEMO_API_PASSWORD"
)

// apiExtra makes the second cluster's backups differ from the first one's, so that both ways are seen.
const apiExtra = `compress-backups = "zstd"
backup-hash = "sha256"
`

// configText is a configuration as a user would write one, but for the free ports.
var configText = template.Must(template.New("").Parse(`# Written by drydock demo.
[Default]
monitoring-datadir = {{printf "%q" .Datadir}}
monitoring-address = "127.0.0.1"
bind-address = "127.0.0.1"
http-port = 0                   # any free port; without the line 10001
api-port = 0                    # 10005
nats-listen = "127.0.0.1:0"     # 127.0.0.1:4222
receiver-name = "demo"
api-credentials = "admin:env:{{.EnvAPIPassword}}"
api-credentials-acl-allow = "admin:cluster db prov proxy"
db-servers-credential = "{{.User}}:env:{{.EnvPassword}}"

monitoring-scheduler = true
scheduler-timezone = "UTC"
scheduler-db-servers-logs = true
scheduler-db-servers-logs-cron = "{{.Logs}}"
scheduler-db-servers-physical-backup = true
scheduler-db-servers-physical-backup-cron = "{{.Backup}}"
scheduler-db-servers-optimize = true
scheduler-db-servers-optimize-cron = "{{.Optimize}}"
{{range .Sites}}
[{{.Cluster}}]
db-servers-hosts = "{{.Addr}}"
scheduler-jobs-mode = "{{.Mode}}"
{{.Extra}}{{end}}`))

type configData struct {
	Datadir, User, EnvPassword, EnvAPIPassword string
	Logs, Backup, Optimize                     string
	Sites                                      []siteData
}

type siteData struct{ Cluster, Addr, Mode, Extra string }

// schedule says when each kind of task is due, once.
type schedule struct{ logs, backup, optimize time.Time }

// tickLead is how far ahead the first tick lies: drydock has to be up by then.
const tickLead = 10 * time.Second

// planTicks sets the ticks. The optimize tick falls into the backup on purpose: drydock holds the job back until the
// server is free, as a table that is rebuilt under a backup can make the backup useless.
func planTicks(now time.Time) schedule {
	first := now.Add(tickLead).UTC().Truncate(time.Second)
	return schedule{logs: first, backup: first.Add(2 * time.Second), optimize: first.Add(4 * time.Second)}
}

// of is when a task is due.
func (s schedule) of(task string) time.Time {
	switch task {
	case "mariabackup":
		return s.backup
	case "optimize":
		return s.optimize
	}
	return s.logs
}

// cronSpec fires daily at the time of day of t, so once during the demo.
func cronSpec(t time.Time) string {
	return fmt.Sprintf("%d %d %d * * *", t.Second(), t.Minute(), t.Hour())
}

// configure writes the configuration and reads it as drydock does.
func (d *demo) configure(context.Context) error {
	d.ticks = planTicks(time.Now())
	data := configData{
		Datadir: d.path("data"), User: d.sql.server.User(), EnvPassword: envPassword, EnvAPIPassword: envAPIPassword,
		Logs: cronSpec(d.ticks.logs), Backup: cronSpec(d.ticks.backup), Optimize: cronSpec(d.ticks.optimize),
	}
	for _, s := range d.sites() {
		data.Sites = append(data.Sites, siteData{s.cluster, s.server.Addr(), string(s.mode), s.extra})
	}
	var text strings.Builder
	if err := configText.Execute(&text, data); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	if err := os.WriteFile(d.configFile(), []byte(text.String()), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return d.loadConfig()
}

func (d *demo) configFile() string { return d.path("drydock.toml") }

// environment guards the process's variables, which several demos in one process would set differently.
var environment sync.Mutex

// loadConfig sets the variables that the configuration names only while it is read, so that no other program inherits
// them.
func (d *demo) loadConfig() (err error) {
	environment.Lock()
	defer environment.Unlock()
	for name, value := range d.secrets() {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
		defer os.Unsetenv(name)
	}
	d.cfg, err = config.Load(d.configFile())
	return err
}

func (d *demo) secrets() map[string]string {
	return map[string]string{envPassword: d.password, envAPIPassword: d.apiPassword}
}

// writeEnvironment writes a file for a shell to read, with what the commands need to know: the configuration's
// variables, and where the bus is for the nats CLI.
func (d *demo) writeEnvironment() error {
	password, err := os.ReadFile(filepath.Join(d.cfg.Global.Datadir, "nats", "password"))
	if err != nil {
		return err
	}
	vars := d.secrets()
	vars["NATS_URL"] = "nats://" + d.addrs.NATS
	vars["NATS_USER"] = d.cfg.Global.NATS.User
	vars["NATS_PASSWORD"] = strings.TrimSpace(string(password))
	var text strings.Builder
	for name, value := range vars {
		fmt.Fprintf(&text, "export %s=%s\n", name, shellQuote(value))
	}
	return os.WriteFile(d.environmentFile(), []byte(text.String()), 0o600)
}

func (d *demo) environmentFile() string { return d.path("env") }

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
