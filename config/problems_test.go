package config

import (
	"strings"
	"testing"
)

func TestEachMistakeNamesFileLineKeyAndWhatToDo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		// The file.
		{"http-port = 1\n", `x.toml:1: key "http-port": stands before the first section; move it`},
		{"[prod\n", "x.toml:1: is not TOML: "},
		{"[prod]\n\ndb-servers-hosts = db1\n", "x.toml:3: is not TOML: "},
		{"[prod]\nx = \"\n", "x.toml:2: is not TOML: "},
		{"[[prod]]\nx = 1\n", "x.toml:1: [[prod]] is a list of sections; write [prod]"},
		{"[prod.eu]\n", "x.toml:1: section [prod.eu] has a dot"},
		{"[prod]\na.b = 1\n", `x.toml:2: key "a.b": has a dot`},
		{good + "[prod]\n", "x.toml:4: section [prod] stands there twice, first on line 1"},
		{good + "[PROD]\n", "x.toml:4: section [PROD] differs from [prod] (x.toml:1) by case only"},
		{"[default]\n", "x.toml:1: section [default]: is neither [Default] nor a cluster"},
		{"[\"../etc\"]\n", "x.toml:1: section [../etc]"},
		{"[\"a/b\"]\n", "x.toml:1: section [a/b]: is not a cluster name"},
		{"[\"\"]\n", "x.toml:1: section []: is not a cluster name"},
		{"[-x]\n", "begin with a letter or a digit"},
		{"[" + strings.Repeat("a", 65) + "]\n", "is not a cluster name; use 1 to 64"},
		{"[backups]\n", `would share the folder "Backups"`},
		{"[Default]\nhttp-port = 1\nhttp-port = 2\n", `x.toml:3: key "http-port": stands there twice, first on line 2`},
		// Names of keys.
		{good + "backup-encrypt-recipients = \"AGE-SECRET-KEY-1XYZ\"\n", `x.toml:4: key "backup-encrypt-recipients": holds a private key; give the public one`},
		{good + "backup-encrypt-recipients = \"ssh-ed25519\"\n", `"ssh-ed25519" is not a public key of age`},
		{"[Default]\nmonitoring-schedular = true\n", `x.toml:2: key "monitoring-schedular": is unknown; the nearest known key is "monitoring-scheduler"`},
		{"[Default]\nbackup-hahs = \"sha256\"\n", `the nearest known key is "backup-hash"`},
		{"[prod]\nhttp-port = 1\n", `x.toml:2: key "http-port": concerns the whole process, not cluster "prod"; move it to [Default]`},
		{"[prod]\ndb-servers-credential = \"u:p\"\n", `x.toml:1: key "db-servers-hosts": is missing for cluster "prod"; add a line`},
		{"[prod]\nscheduler-db-servers-receiver-use-ssl = true\n", `x.toml:2: key "scheduler-db-servers-receiver-use-ssl": asks for TLS on the stream ports, which is not built yet`},
		{"[prod]\nbackup-restic = \"perhaps\"\n", `x.toml:2: key "backup-restic"`},
		{good + "scheduler-jobs-ssh = true\n", `x.toml:4: key "scheduler-jobs-ssh": is on for cluster "prod" but onpremise-ssh is off`},
		{good + "scheduler-jobs-ssh = true\nonpremise-ssh = true\n", `x.toml:4: key "scheduler-jobs-ssh": needs an account on the hosts`},
		{good + "scheduler-jobs-ssh = true\nonpremise-ssh-credential = \"deploy:\"\n", `has neither a key nor a password for the hosts of cluster "prod"`},
		{good + "scheduler-jobs-ssh = true\n[Default]\napi-port = 0\n", "so it needs a fixed port; set api-port"},
		{good + "onpremise-ssh-credential = \":hunter2\"\n", `key "onpremise-ssh-credential": is not user:password`},
		{good + "onpremise-ssh-prot = 22\n", `the nearest known key is "onpremise-ssh-port"`},
		// Values.
		{"[Default]\nhttp-port = 1.5\n", `x.toml:2: key "http-port": has a value of the wrong kind`},
		{"[Default]\nhttp-port = {a = 1}\n", `x.toml:2: key "http-port": has a value of the wrong kind`},
		{"[Default]\nhttp-port = 70000\n", "70000 is out of range; give a number from 0 to 65535"},
		{"[Default]\nhttp-port = 80\n", "port 80 is below 1024"},
		{"[Default]\nhttp-port = 10005\n", "port 10005 is also that of api-port"},
		{"[Default]\nhttp-server = \"maybe\"\n", `"maybe" is neither true nor false`},
		{"[Default]\nlog-level = 3\n", `"3" is not a permitted value; write one of debug, info, warn, error`},
		{"[Default]\nmonitoring-ticker = \"-2s\"\n", `"-2s" is not a duration`},
		{"[Default]\nmonitoring-ticker = 0\n", `"0" is too short; give at least 100ms`},
		{"[Default]\nreceiver-idle-timeout = \"99999999999999999999\"\n", "is not a duration"},
		{"[Default]\nnats-max-store = \"many\"\n", `"many" is not a size`},
		{"[Default]\nnats-max-store = \"-1GiB\"\n", "is not a size"},
		{"[Default]\nnats-max-store = \"99999999TiB\"\n", "is not a size"},
		{"[Default]\nnats-logs-max-bytes = 0\n", "is too small; give at least 1MiB"},
		{"[Default]\nnats-max-store = \"4GiB\"\n", "4GiB is less than the 12080MiB that are reserved: nats-tasks-max-bytes (1GiB), nats-jobs-max-bytes (4GiB)"},
		{"[Default]\nnats-max-store = \"12079MiB\"\n", "nats-deadletters-max-bytes (64MiB) and 2160MiB for the buckets; raise it or lower them"},
		{"[Default]\nnats-replicas = 2\n", "2 copies cannot form a majority"},
		{"[Default]\nnats-replicas = 3\n", "the embedded server keeps one copy"},
		{"[Default]\nnats-listen = \"4222\"\n", `"4222" is not host:port`},
		{"[Default]\nnats-url = \"http://h\"\n", "holds something that is no server URL"},
		{"[Default]\nnats-tls-cert = \"c.pem\"\n", `x.toml:2: key "nats-tls-cert": is set without nats-tls-key`},
		{"[Default]\napi-https-key = \"k.pem\"\n", `x.toml:2: key "api-https-key": is set without api-https-cert`},
		{"[Default]\nbind-address = \"eth0\"\n", `"eth0" is not an IP address`},
		{"[Default]\nmonitoring-address = \"10.0.1.5:4000\"\n", "give an address without a port"},
		{"[Default]\nmonitoring-datadir = \"\"\n", "is empty"},
		{"[Default]\nmonitoring-datadir = \"/a\\u0000b\"\n", "control character"},
		{"[Default]\nreceiver-allow-from = \"db1\"\n", `"db1" is neither an IP address nor a network`},
		{"[Default]\nreceiver-allow-from = \"10.0.0.1/8\"\n", "has bits beyond its mask; write 10.0.0.0/8"},
		{"[Default]\nscheduler-db-servers-sender-ports = \"4000,4000\"\n", "port 4000 stands there twice"},
		{"[Default]\nscheduler-db-servers-sender-ports = \"4010-4000\"\n", "runs backwards"},
		{"[Default]\nscheduler-db-servers-sender-ports = \"1024-65535\"\n", "names more than 4096 ports"},
		{"[Default]\nscheduler-db-servers-sender-ports = \"99999\"\n", "99999 is out of range"},
		{"[Default]\nscheduler-db-servers-sender-ports = \"1000\"\n", "port 1000 is below 1024 and drydock does not run as root"},
		{"[Default]\nscheduler-db-servers-sender-ports = \"10000-10010\"\n", "port 10001 is that of http-port"},
		{"[Default]\nscheduler-db-servers-sender-ports = \"10002\"\n", "port 10002 is that of Graphite"},
		{"[Default]\nscheduler-db-servers-sender-ports = \"10005\"\n", "port 10005 is that of api-port"},
		{"[Default]\nscheduler-db-servers-sender-ports = \"4222\"\n", "port 4222 is that of nats-listen"},
		{"[Default]\napi-credentials-acl-allow = \"bob:db\"\n", `names user "bob", who is not in api-credentials`},
		{"[prod]\napi-credentials-acl-cluster = \"bob:db\"\n", `names user "bob", who is not in api-credentials`},
		{"[prod]\napi-credentials-acl-cluster = \"bob\"\n", `"bob" is not user:grants`},
		{"[Default]\napi-trusted-proxies = \"proxy\"\n", `"proxy" is neither an IP address nor a network`},
		{"[Default]\napi-credentials = \"system:x\"\n", `user "system" belongs to the scripts`},
		{"[prod]\ndb-servers-hosts = \"\"\n", "is empty; list the servers"},
		{"[prod]\ndb-servers-hosts = \"h1,h1:3306\"\n", "server h1:3306 stands there twice"},
		{"[prod]\ndb-servers-hosts = \"h1:99999\"\n", `server "h1:99999": port 99999 is out of range`},
		{"[prod]\ndb-servers-hosts = \"h1:\"\n", "has a colon but no port"},
		{"[prod]\ndb-servers-hosts = \":3306\"\n", "host name is empty"},
		{"[prod]\ndb-servers-hosts = \"../../etc:3306\"\n", "host name"},
		{"[prod]\ndb-servers-hosts = \"a/b\"\n", "holds a character other than"},
		{"[prod]\ndb-servers-hosts = \"a\\tb\"\n", "holds a character other than"},
		{"[prod]\ndb-servers-hosts = \"2001:db8::1\"\n", "put an IPv6 address in brackets"},
		{"[prod]\ndb-servers-hosts = \"[10.0.0.1]:3306\"\n", "is not [IPv6]:port"},
		{"[prod]\ndb-servers-hosts = \"h1\"\ndb-servers-backup-hosts = \"h2\"\n", `x.toml:3: key "db-servers-backup-hosts": server h2:3306 is not in db-servers-hosts`},
		{"[prod]\ndb-servers-credential = \"root\"\n", "is not user:password"},
		{"[prod]\ndb-servers-credential = \"root:\"\n", "has an empty password"},
		{"[prod]\nscheduler-timezone = \"Mars/Base\"\n", `"Mars/Base" is no known time zone`},
		{"[prod]\nscheduler-timezone = \"\"\n", "is no known time zone"},
		{"[prod]\nscheduler-jobs-retry = -1\n", "-1 is out of range; give a number from 0 to 10"},
		{"[prod]\nscheduler-db-servers-logs-tasks = \"errorlog,optimize\"\n", `"optimize" is not a permitted value`},
		{"[prod]\nscheduler-db-servers-logs-tasks = \"\"\n", "is empty; name at least one of"},
		{"[prod]\nscheduler-db-servers-optimize-cron = \"0 61 3 * * 0\"\n", `x.toml:2: key "scheduler-db-servers-optimize-cron": field 2 (minutes) "61": above maximum 59`},
	} {
		_, err := parse(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q:\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}

func TestNoErrorQuotesASecret(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"[prod]\ndb-servers-credential = \"hunter2\"\n",
		"[prod]\ndb-servers-credential = \"root:hunter2\n",
		"[prod]\ndb-servers-credential = 'root:hunter2' hunter2\n",
		"[Default]\napi-credentials = \"admin:hunter2,hunter2\"\n",
		"[Default]\napi-credentials = \"admin:hunter2,admin:hunter2\"\n",
		"[Default]\napi-credentials = {a = \"hunter2\"}\n",
		"[Default]\nnats-url = \"nats://u:hunter2@h:4222\"\n",
	} {
		_, err := parse(text)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestMigratedFileIsPassedOverNotRefused(t *testing.T) {
	t.Parallel()
	cfg := mustParse(t, `[Default]
failover-mode = "manual"
check-type = "tcp"
haproxy = true
proxysql-servers = "p1"
backup-keep-until-valid = true
backup-restic-purge-oldest-on-disk-space = true
onpremise-ssh-start-proxy-script = "/opt/start"
scheduler-db-servers-receiver-use-ssl = false
http-bind-address = "0.0.0.0"
`+good+`db-servers-prefered-master = "db1"
replication-multisource-head-clusters = "x"
`)
	for pos, key := range map[string]string{
		"x.toml:2": "failover-mode", "x.toml:3": "check-type", "x.toml:4": "haproxy", "x.toml:5": "proxysql-servers",
		"x.toml:6": "backup-keep-until-valid", "x.toml:7": "backup-restic-purge-oldest-on-disk-space", "x.toml:8": "onpremise-ssh-start-proxy-script",
		"x.toml:10": "http-bind-address", "x.toml:14": "db-servers-prefered-master",
		"x.toml:15": "replication-multisource-head-clusters",
	} {
		if !hasNote(cfg.Ignored, pos, key) {
			t.Errorf("%s %s is not among %v", pos, key, cfg.Ignored)
		}
	}
	if len(cfg.Ignored) != 10 {
		t.Errorf("a switch that is off made a note: %v", cfg.Ignored)
	}
}

func TestWarningsSayWhatIsProbablyNotMeant(t *testing.T) {
	t.Parallel()
	on := "monitoring-scheduler = true\nscheduler-db-servers-logs = true\n"
	for _, c := range []struct{ text, pos, want string }{
		{good + on + "scheduler-db-servers-logs-cron = \"*/1 * * * * *\"\n", "x.toml:6", "fires 60 times a minute"},
		{good + "scheduler-db-servers-optimize = true\n", "x.toml:4", "monitoring-scheduler is off, so it never fires"},
		{"[Default]\n", "x.toml", "has no cluster"},
		{"[Default]\napi-credentials = \"a:b\"\n" + good, "x.toml:2", `user "a" has no grants`},
		{"[Default]\nnats-listen = \"0.0.0.0:4222\"\n" + good, "x.toml:2", "passwords cross the network in clear"},
		{good + "[two]\ndb-servers-hosts = \"DB1\"\ndb-servers-credential = \"u:p\"\n", "x.toml:5", `server db1:3306 is also in cluster "prod"`},
	} {
		cfg := mustParse(t, c.text)
		if len(cfg.Warnings) != 1 || cfg.Warnings[0].Pos != c.pos || !strings.Contains(cfg.Warnings[0].Text, c.want) {
			t.Errorf("%q: got %v, want %s: %s", c.text, cfg.Warnings, c.pos, c.want)
		}
	}
	if cfg := mustParse(t, good+on+"scheduler-db-servers-logs-cron = \"*/1 * * * *\"\n"); len(cfg.Warnings) > 0 {
		t.Errorf("five fields, every minute: %v", cfg.Warnings)
	}
}

func TestRootMayUseLowPorts(t *testing.T) {
	t.Parallel()
	l := newLoader(nil)
	l.root = true
	if _, err := l.load("x.toml", []byte("[Default]\nhttp-port = 80\napi-port = 443\n"+good)); err != nil {
		t.Error(err)
	}
}

func TestPortZeroMeansAnyFreePort(t *testing.T) {
	t.Parallel()
	mustParse(t, "[Default]\nhttp-port = 0\napi-port = 0\nnats-listen = \"127.0.0.1:0\"\n"+good)
}

func TestEveryScheduleThatCannotFireIsWarnedOf(t *testing.T) {
	t.Parallel()
	for _, k := range Keys() {
		name, ok := strings.CutSuffix(k.Name, "-cron")
		if !ok || name == "scheduler-alert-disable" { // quiet times need no scheduler
			continue
		}
		cfg, err := parse(good + name + " = true\n")
		if name == "scheduler-jobs-ssh" {
			cfg, err = parse(good + name + " = true\nonpremise-ssh = true\nonpremise-ssh-credential = \"u:p\"\n")
		}
		if err != nil || !hasNote(cfg.Warnings, "x.toml:4", name) {
			t.Errorf("%s: nothing says that it never fires: %v", name, err)
		}
	}
}
