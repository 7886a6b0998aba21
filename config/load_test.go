package config

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// good is a section that needs nothing more.
const good = "[prod]\ndb-servers-hosts = \"db1\"\ndb-servers-credential = \"u:p\"\n"

// parse loads text as file "x.toml" in an environment of its own, as an ordinary user.
func parse(text string, environ ...string) (*Config, error) {
	l := newLoader(environ)
	l.root = false
	return l.load("x.toml", []byte(text))
}

func mustParse(t *testing.T, text string, environ ...string) *Config {
	t.Helper()
	cfg, err := parse(text, environ...)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// write puts files below a new folder and returns the folder.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func hasNote(notes []Note, pos, key string) bool {
	return slices.ContainsFunc(notes, func(n Note) bool { return n.Pos == pos && n.Key == key })
}

func TestMaintenanceWindowsAreReadAsTextAndAsList(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`"mon-fri 22:00-05:00, sat,sun 00:00-24:00"`, `["mon-fri 22:00-05:00", "sat,sun 00:00-24:00"]`} {
		c := mustParse(t, good+"maintenance-windows = "+text+"\nmaintenance-window-policy = \"wait\"\nscheduler-max-concurrent-backups = 2\nscheduler-splay = \"10m\"\n").Clusters[0]
		if c.Windows.String() != "mon-fri 22:00-05:00,sat,sun 00:00-24:00" || c.WindowPolicy != "wait" || c.MaxBackups != 2 || c.Splay != 10*time.Minute {
			t.Errorf("%s: %+v", text, c)
		}
	}
	if c := mustParse(t, good).Clusters[0]; !c.Windows.IsZero() || c.WindowPolicy != "skip" || c.MaxBackups != 0 || c.Splay != 0 {
		t.Errorf("defaults are %+v", c)
	}
	_, err := parse(good + `maintenance-windows = "mon-fri 22:00-26:00"`)
	if err == nil || !strings.Contains(err.Error(), `x.toml:4: key "maintenance-windows": "22:00-26:00" is no range of times`) {
		t.Errorf("error is %v", err)
	}
}

func TestEveryKeyReachesItsField(t *testing.T) {
	t.Parallel()
	cfg := mustParse(t, `
[Default]
monitoring-datadir = "/data"
http-port = 8080
api-credentials = ["admin:a,b", "dba:x:y"]
api-credentials-acl-allow = "admin:cluster db prov proxy,dba:db proxy"
scheduler-db-servers-sender-ports = "4000,4010-4012"
receiver-allow-from = "10.0.2.7, 10.1.0.0/16"
api-trusted-proxies = "10.0.0.7"
receiver-drain-timeout = 0
receiver-name = "r1"
log-level = "WARN"
nats-logs-max-age = "7d"
nats-logs-max-bytes = "500MB"
scheduler-timezone = "Europe/Paris"
[prod]
api-credentials-acl-cluster = "dba:db-backup,admin:"
db-servers-hosts = "DB1:3307, db2.example.com,[2001:DB8::1]:3308"
db-servers-credential = "root:pa:ss"
db-servers-backup-hosts = ["db2.example.com:3306"]
compress-backups = true
scheduler-jobs-lease = 90
scheduler-db-servers-logs-tasks = "auditlog"
scheduler-db-servers-logs-cron = "*/5 * * * mon-fri"
scheduler-jobs-log-level = "debug"
`)
	g, c := cfg.Global, cfg.Clusters[0]
	for _, check := range []struct {
		what string
		ok   bool
	}{
		{"datadir", g.Datadir == "/data"},
		{"http-port", g.HTTPPort == 8080 && g.APIPort == 10005},
		{"users", len(g.Users) == 2 && g.Users[0].Password.Reveal() == "a,b" && g.Users[1].Password.Reveal() == "x:y"},
		{"grants", slices.Equal(g.Users[1].Grants, []string{"db", "proxy"})},
		{"grants on the cluster", len(c.Grants) == 2 && slices.Equal(c.Grants["dba"], []string{"db-backup"}) && len(c.Grants["admin"]) == 0},
		{"trusted proxies", slices.Equal(g.TrustedProxies, []netip.Prefix{netip.MustParsePrefix("10.0.0.7/32")})},
		{"sender ports", slices.Equal(g.Receiver.Ports, []int{4000, 4010, 4011, 4012})},
		{"allow from", slices.Equal(g.Receiver.AllowFrom, []netip.Prefix{netip.MustParsePrefix("10.0.2.7/32"), netip.MustParsePrefix("10.1.0.0/16")})},
		{"drain", g.Receiver.DrainTimeout == 0 && g.Receiver.IdleTimeout == 10*time.Minute},
		{"log level", g.LogLevel == slog.LevelWarn},
		{"logs limit", g.NATS.Logs == Limit{7 * 24 * time.Hour, 500e6}},
		{"timezone", c.Timezone.String() == "Europe/Paris"},
		{"servers", slices.Equal(c.Servers, []Server{{"db1", 3307}, {"db2.example.com", 3306}, {"2001:db8::1", 3308}})},
		{"backup hosts", slices.Equal(c.BackupHosts, []Server{{"db2.example.com", 3306}})},
		{"credential", c.User == "root" && c.Password.Reveal() == "pa:ss"},
		{"compress", c.Compress == "gzip"},
		{"lease in seconds", c.Lease == 90*time.Second},
		{"log tasks", slices.Equal(c.LogsTasks, []string{"auditlog"})},
		{"cron", c.Logs.Cron == "*/5 * * * mon-fri" && !c.Logs.Enabled},
		{"jobs log level", c.JobsLogLevel == "DEBUG"},
		{"receiver ports", slices.Equal(c.ReceiverPorts, []int{4444})},
	} {
		if !check.ok {
			t.Errorf("%s is wrong in %+v %+v", check.what, g, c)
		}
	}
	if s := c.Servers[2].String(); s != "[2001:db8::1]:3308" {
		t.Errorf("IPv6 server prints as %s", s)
	}
}

func TestOverrideOrderIsSectionEnvironmentDefault(t *testing.T) {
	t.Parallel()
	text := "[Default]\nhttp-port = 1111\nscheduler-jobs-retry = 1\nbackup-hash = \"sha256\"\n" + good +
		"[own]\ndb-servers-hosts = \"db2\"\ndb-servers-credential = \"u:p\"\nscheduler-jobs-retry = 3\n"
	cfg := mustParse(t, text, "DRYDOCK_HTTP_PORT=2222", "DRYDOCK_SCHEDULER_JOBS_RETRY=2", "DRYDOCK_BACKUP_HASH=")
	prod, _ := cfg.Cluster("prod")
	own, _ := cfg.Cluster("own")
	if cfg.Global.HTTPPort != 2222 || prod.Retry != 2 || own.Retry != 3 {
		t.Errorf("got port %d, retries %d and %d", cfg.Global.HTTPPort, prod.Retry, own.Retry)
	}
	if prod.BackupHash != "sha256" {
		t.Errorf("an empty variable replaced [Default]: %q", prod.BackupHash)
	}
	if _, ok := cfg.Cluster("PROD"); ok {
		t.Error("cluster found by a name it does not have")
	}
}

func TestBadEnvironmentNamesTheVariable(t *testing.T) {
	t.Parallel()
	_, err := parse(good, "DRYDOCK_HTTP_PORT=many")
	if err == nil || !strings.Contains(err.Error(), `DRYDOCK_HTTP_PORT: key "http-port": "many"`) {
		t.Errorf("got %v", err)
	}
	cfg := mustParse(t, good, "DRYDOCK_HTP_PORT=1", "DRYDOCK_SERVICE_HOST=10.0.0.1")
	if len(cfg.Warnings) != 1 || cfg.Warnings[0].Pos != "DRYDOCK_HTP_PORT" || !strings.Contains(cfg.Warnings[0].Text, "DRYDOCK_HTTP_PORT") {
		t.Errorf("got warnings %v", cfg.Warnings)
	}
}

func TestIncludedFilesAreReadInNameOrder(t *testing.T) {
	t.Parallel()
	dir := write(t, map[string]string{
		"main.toml":      "[Default]\ninclude = \"more\"\nhttp-port = 1111\n",
		"more/20.toml":   "[Default]\nhttp-port = 3333\n[b]\ndb-servers-hosts = \"b1\"\ndb-servers-credential = \"u:p\"\n",
		"more/10.toml":   "[Default]\nhttp-port = 2222\n[a]\ndb-servers-hosts = \"a1\"\ndb-servers-credential = \"u:p\"\n",
		"more/30.toml":   "[a]\nscheduler-jobs-retry = 2\n",
		"more/notes.txt": "not TOML",
	})
	cfg, err := Load(filepath.Join(dir, "main.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Global.HTTPPort != 3333 || len(cfg.Clusters) != 2 || cfg.Clusters[0].Name != "a" || cfg.Clusters[0].Retry != 2 {
		t.Errorf("got %+v", cfg)
	}
	if cfg.Global.Include != filepath.Join(dir, "more") {
		t.Errorf("include is %q", cfg.Global.Include)
	}
	if !hasNote(cfg.Warnings, filepath.Join(dir, "more/20.toml")+":2", "http-port") {
		t.Errorf("replacing a key went unsaid: %v", cfg.Warnings)
	}
}

func TestMistakeInIncludedFileNamesThatFile(t *testing.T) {
	t.Parallel()
	dir := write(t, map[string]string{
		"main.toml":   "[Default]\ninclude = \"more\"\n" + good,
		"more/a.toml": "\n[prod]\nscheduler-jobs-retyr = 1\n",
		"more/b.toml": "[Default]\ninclude = \"deeper\"\n",
	})
	_, err := Load(filepath.Join(dir, "main.toml"))
	for _, want := range []string{
		filepath.Join(dir, "more/a.toml") + `:3: key "scheduler-jobs-retyr": is unknown; the nearest known key is "scheduler-jobs-retry"`,
		filepath.Join(dir, "more/b.toml") + `:2: key "include"`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
}

func TestMissingFilesAreErrors(t *testing.T) {
	t.Parallel()
	if _, err := Load(filepath.Join(t.TempDir(), "none.toml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := Load(t.TempDir()); err == nil {
		t.Error("a folder passed for a file")
	}
	if _, err := parse("[Default]\ninclude = \"none\"\n" + good); err == nil || !strings.Contains(err.Error(), `x.toml:2: key "include"`) {
		t.Errorf("got %v", err)
	}
}

func TestAllProblemsAreReportedTogetherInOrder(t *testing.T) {
	t.Parallel()
	_, err := parse("[Default]\nhttp-port = 99999\nscheduler-jobs-mode = \"smtp\"\n[a]\ndb-servers-hosts = \"h:0\"\n[b]\nhttp-server = true\n")
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		t.Fatalf("got %v", err)
	}
	var got []string
	for _, e := range joined.Unwrap() {
		var p Problem
		if !errors.As(e, &p) {
			t.Fatalf("%v is no Problem", e)
		}
		got = append(got, p.Pos+" "+p.Key)
	}
	want := []string{
		"x.toml:2 http-port", "x.toml:3 scheduler-jobs-mode", // once, though two clusters inherit it
		"x.toml:4 db-servers-credential", "x.toml:5 db-servers-hosts",
		"x.toml:6 db-servers-hosts", "x.toml:6 db-servers-credential", "x.toml:7 http-server",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestMainFileInItsOwnIncludeFolderIsReadOnce(t *testing.T) {
	t.Parallel()
	dir := write(t, map[string]string{"main.toml": "[Default]\ninclude = \".\"\n" + good})
	cfg, err := Load(filepath.Join(dir, "main.toml"))
	if err != nil || len(cfg.Warnings) > 0 {
		t.Errorf("got %v, %v", cfg, err)
	}
}

func TestByteOrderMarkAndWindowsLineEndsAreNoMistake(t *testing.T) {
	t.Parallel()
	mustParse(t, "\ufeff"+strings.ReplaceAll(good, "\n", "\r\n"))
}
