package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

//go:generate go test -run TestDocumentIsTheTable -update

// Explain describes one key for a terminal: meaning, values, default, scope and environment variable. An unknown
// name is an error that suggests the nearest.
func Explain(name string) (string, error) {
	k, ok := lookup(name)
	if !ok {
		near, _ := nearest(name)
		return "", fmt.Errorf("explain key %q: unknown; the nearest is %q", clip(name), near)
	}
	return fmt.Sprintf("%s\n  %s\n  values:      %s\n  default:     %s\n  stands in:   %s\n  environment: %s\n",
		k.Name, k.meaning(), k.Values, k.shownDefault(), k.place(), k.EnvName()), nil
}

// meaning is the doc sentence with what follows from the key's flags.
func (k Key) meaning() string {
	if k.Secret {
		return k.Doc + " A secret: env:NAME or file:PATH may stand for the password."
	}
	return k.Doc
}

func (k Key) shownDefault() string {
	switch {
	case k.Require:
		return "none, must be set"
	case k.Default == "":
		return "empty"
	}
	return k.Default
}

func (k Key) place() string {
	if k.Scope == ScopeGlobal {
		return "[Default]"
	}
	return "[Default] or a cluster"
}

// Sample is a complete configuration of eleven lines. It takes two passwords from the environment: ADMIN_PASSWORD and
// DB_PASSWORD must be set to parse it.
func Sample() string {
	return `[Default]
monitoring-address = "10.0.1.5"
api-credentials = "admin:env:ADMIN_PASSWORD"
api-credentials-acl-allow = "admin:cluster db prov proxy"
[prod]
db-servers-hosts = "10.0.1.11:3306,10.0.1.12:3306"
db-servers-credential = "drydock:env:DB_PASSWORD"
monitoring-scheduler = true
scheduler-db-servers-logs = true
scheduler-db-servers-physical-backup = true
scheduler-backup-prune = true
`
}

// Doc renders docs/configuration.md from the table.
func Doc() string {
	var b strings.Builder
	b.WriteString(strings.Replace(docHead, "%SAMPLE%", Sample(), 1))
	group, scope := "", Scope("")
	for _, k := range Keys() {
		if k.Scope != scope {
			scope = k.Scope
			b.WriteString(docScope[scope])
		}
		if k.Group != group {
			group = k.Group
			fmt.Fprintf(&b, "\n### %s\n\n| key | values | default | meaning |\n| --- | --- | --- | --- |\n", group)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.Name, cell(k.Values), cellDefault(k), cell(k.meaning()))
	}
	b.WriteString(docLater())
	return b.String()
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func cellDefault(k Key) string {
	if k.Require || k.Default == "" {
		return k.shownDefault()
	}
	return "`" + cell(k.Default) + "`"
}

var docScope = map[Scope]string{
	ScopeGlobal: "\n## Keys of the whole process\n\nThese stand in `[Default]` only; in a cluster's section they are an error.\n",
	ScopeCluster: "\n## Keys of a cluster\n\nThese stand in a cluster's section, or in `[Default]` for every cluster that does not\n" +
		"set them.\n",
}

// docLater lists the switches that are refused for now, in a stable order.
func docLater() string {
	var b strings.Builder
	b.WriteString("\n## Known, not built yet\n\nFalse or absent these do no harm; true is an error, because nothing would run.\n\n")
	for _, name := range slices.Sorted(maps.Keys(later)) {
		fmt.Fprintf(&b, "- `%s`: %s\n", name, later[name])
	}
	b.WriteString("\nOther keys of replication-manager (failover, proxies, provisioning, ...) are passed over; `drydock check` lists\nthem.\n")
	return b.String()
}

const docHead = "<!-- Generated from config/keys.go by `go generate ./config`. Do not edit. -->\n\n" +
	`# Configuration

drydock reads one TOML file, ` + "`drydock serve --config FILE`" + `, with a section ` + "`[Default]`" + ` and one section per cluster,
whose name is the cluster's: 1 to 64 letters, digits, ` + "`-` and `_`" + `, beginning with a letter or digit.

` + "```toml\n" + `%SAMPLE%` + "```\n" + `
Where a value comes from, the first that is set wins:

1. the cluster's own section (keys of a cluster only);
2. the environment variable ` + "`DRYDOCK_`" + ` and the key in capitals with ` + "`_` for `-`: `http-port` is `DRYDOCK_HTTP_PORT`" + `;
   an empty variable counts as unset;
3. ` + "`[Default]`" + `;
4. the default below.

` + "`include`" + ` names a folder whose ` + "`*.toml`" + ` files are read after the main file, in the order of their names. A later file
replaces single keys of an earlier one, with a warning. Relative paths, also those of certificates and of ` + "`file:`" + `, begin
at the main file's folder; ` + "`monitoring-datadir`" + ` begins at the working directory.

Notation:

- a duration is ` + "`90s`, `1h30m`, `7d`, `1d12h`" + ` or a plain number of seconds;
- a size is ` + "`4GiB`, `500MB`" + ` or a plain number of bytes;
- a list is a TOML array or one string with commas;
- a cron spec has 5 fields (minutes first) or 6 (seconds first). ` + "`*/1 * * * * *`" + ` fires every second, not every minute;
- the password in a secret may be ` + "`env:NAME`" + ` (a variable of the environment) or ` + "`file:PATH`" + ` (a file, without its last
  line end). ` + "`root:env:DB_PASSWORD`" + ` is user ` + "`root`" + ` with the password in ` + "`DB_PASSWORD`" + `; the whole ` + "`user:password`" + ` may be a
  reference too. Passwords with commas in ` + "`api-credentials`" + ` need an array or a reference.

Every mistake is reported at once, each with file, line, key and what to do. An unknown key is an error.
`
