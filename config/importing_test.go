package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const repman = "testdata/repman/config.toml"

// theirSecrets are all that stand in the files of testdata/repman, whichever key they belong to.
var theirSecrets = []string{"Sup3r", "secret,", "hash_", "r3st1c", "Tr0ub4dor", "pr0xy-pass", "ssh-pass", "rest-pass"}

func imported(t *testing.T, o ImportOptions, files ...string) *Import {
	t.Helper()
	got, err := ImportFiles(files, o)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// What was imported is read by drydock as it is, with no secret of the other file in it or in what is said of it.
func TestImportedConfigurationIsTakenAndHoldsNoSecret(t *testing.T) {
	t.Parallel()
	got := imported(t, ImportOptions{Secrets: SecretsEnv}, repman)
	all, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range theirSecrets {
		if strings.Contains(string(all), secret) {
			t.Errorf("the secret %q is shown", secret)
		}
	}
	if len(got.Open) > 0 {
		t.Errorf("drydock does not take it: %q", got.Open)
	}
	environ := []string{}
	for _, r := range got.References {
		name, ok := strings.CutPrefix(r.Name, "env:")
		if !ok || r.For == "" {
			t.Errorf("reference %+v", r)
		}
		environ = append(environ, name+"=x")
	}
	cfg, err := newLoader(environ).load("drydock.toml", []byte(got.TOML))
	if err != nil {
		t.Fatalf("%v\n%s", err, got.TOML)
	}
	prod, ok := cfg.Cluster("prod")
	if !ok || len(prod.Servers) != 2 || prod.User != "root" || prod.ReplicationUser != "repl" || !prod.LogicalBackup.Enabled || prod.PhysicalBackup.Cron != "0 0 2 * * 6" {
		t.Errorf("%+v", prod)
	}
	if prod.Scheduler || prod.SSH.Enabled {
		t.Error("schedules are on beside those of replication-manager: everything would run twice")
	}
	if prod.Logs.Enabled || prod.Archive.KeepDaily != 9 {
		t.Errorf("the overwrites of replication-manager do not count: logs %v, daily %d", prod.Logs.Enabled, prod.Archive.KeepDaily)
	}
	if prod.Compress != "gzip" || cfg.Global.Datadir != "/var/lib/drydock" || len(cfg.Global.Users) != 2 || len(cfg.Ignored) > 0 {
		t.Errorf("compress %s, datadir %s, users %v, ignored %v", prod.Compress, cfg.Global.Datadir, cfg.Global.Users, cfg.Ignored)
	}
}

// Every key is answered for, once: one that was passed over in silence would be missed when it matters.
func TestEveryKeyOfTheirsIsAnsweredFor(t *testing.T) {
	t.Parallel()
	got := imported(t, ImportOptions{Secrets: SecretsEnv}, repman)
	verdicts := map[string]Verdict{}
	for _, k := range got.Keys {
		name := k.Section + "/" + k.Key
		if verdicts[name] != "" {
			t.Errorf("%s is answered for twice", name)
		}
		verdicts[name] = k.Verdict
		if k.Text == "" && k.Verdict != Maps || k.Where == "" {
			t.Errorf("%+v", k)
		}
	}
	for name, want := range map[string]Verdict{
		"Default/monitoring-address": Maps, "Default/monitoring-datadir": Changed, "Default/include": Changed, "Default/log-file": Nothing,
		"Default/api-credentials": ByReference, "Default/backup-restic-password": ByReference, "Default/mail-smtp-addr": Maps, "/sysbench-threads": Refused,
		"prod/db-servers-credential": ByReference, "prod/failover-mode": Nothing, "prod/proxysql-password": Nothing, "prod/monitoring-scheduler": Changed,
		"prod/scheduler-db-servers-receiver-use-ssl": Refused, "prod/backup-restic-repository": Refused, "prod/monitoring-shiny-new-thing": Unknown,
		"prod/scheduler-db-servers-analize": Unknown, "prod/backup-keep-daily": Changed, "prod/compress-backups": Maps, "prod/db-servers-hosts": Maps,
		"prod/log-level": Changed, "Default/log-level": Refused,
	} {
		if verdicts[name] != want {
			t.Errorf("%s: %q, want %q", name, verdicts[name], want)
		}
	}
	for _, file := range []string{repman, "testdata/repman/cluster.d/prod.toml"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			key, _, ok := strings.Cut(line, " = ")
			if ok && verdicts["Default/"+key] == "" && verdicts["prod/"+key] == "" && verdicts["/"+key] == "" {
				t.Errorf("nothing is said of %s", key)
			}
		}
	}
}

func TestImportAsOneAsks(t *testing.T) {
	t.Parallel()
	got := imported(t, ImportOptions{Secrets: SecretsCopy, TakeOver: true}, repman)
	for _, want := range []string{
		`db-servers-credential = "root:Tr0ub4dor"`, `replication-credential = "repl:env:PROD_REPLICATION_CREDENTIAL"`,
		`api-credentials = ["admin:Sup3r,secret", "dba:env:API_CREDENTIALS_DBA"]`,
		"monitoring-scheduler = true\n", "scheduler-jobs-ssh = true\n", "chmod",
	} {
		if !strings.Contains(got.TOML, want) {
			t.Errorf("%q is missing in\n%s", want, got.TOML)
		}
	}
	if strings.Contains(got.TOML, "rest-pass") || strings.Contains(got.TOML, "hash_") {
		t.Error("a password in a URL, or one that nobody can read, is copied")
	}
	files := imported(t, ImportOptions{Secrets: SecretsFile}, repman)
	if !strings.Contains(files.TOML, `"root:file:secrets/prod_db_servers_credential"`) || len(files.Open) > 0 {
		t.Errorf("%q\n%s", files.Open, files.TOML)
	}
}

func TestImportOfOddFiles(t *testing.T) {
	t.Parallel()
	write := func(text string) string {
		file := filepath.Join(t.TempDir(), "c.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	// Their program takes names in any case; a section that only it wrote; a value that is TOML in a string; no hosts.
	got := imported(t, ImportOptions{Secrets: SecretsEnv}, write("[default]\nHTTP-Port = 8080\n[saved-a]\ndb-servers-hosts = \"h:1\"\n"+
		"db-servers-credential = \"u:p\"\nbackup-mydumper-path = \"/x\\\"\\n[evil]\\n\"\nbackup-mysqldump-path = '/a \"b\" \\c'\n[b]\ndb-servers-credential=\"u:p\"\n"))
	if !strings.Contains(got.TOML, "http-port = 8080") || !strings.Contains(got.TOML, "[a]\n") || strings.Contains(got.TOML, "[evil]") ||
		!strings.Contains(got.TOML, `backup-mysqldump-path = "/a \"b\" \\c"`) {
		t.Error(got.TOML)
	}
	if len(got.Open) != 1 || !strings.Contains(got.Open[0], "db-servers-hosts") {
		t.Errorf("what is missing: %q", got.Open)
	}
	if _, err := ImportFiles([]string{write("[a\n")}, ImportOptions{}); err == nil || !strings.Contains(err.Error(), "TOML") {
		t.Errorf("no TOML: %v", err)
	}
	if _, err := ImportFiles([]string{filepath.Join(t.TempDir(), "none")}, ImportOptions{}); err == nil {
		t.Error("a file that is not there")
	}
	out := write("kept")
	if err := WriteNew(out, "new"); err == nil {
		t.Error("a file was overwritten")
	}
}
