package metrics

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

//go:generate go test -run TestReferenceIsTheTable -update

var update = flag.Bool("update", false, "rewrite docs/metrics.md from the table")

const docs = "../../docs/"

func TestReferenceIsTheTable(t *testing.T) {
	if *update {
		if err := os.WriteFile(docs+"metrics.md", []byte(reference()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(docs + "metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != reference() {
		t.Error("docs/metrics.md differs from the table; run go generate ./gateway/metrics")
	}
}

// reference renders docs/metrics.md.
func reference() string {
	var b strings.Builder
	b.WriteString(referenceHead)
	for _, g := range []struct {
		title string
		list  []family
	}{
		{"The process", ofProcess}, {"Jobs", ofJobs}, {"Ticks", ofTicks}, {"Conditions", ofConditions}, {"Backups", ofBackups},
		{"Binary logs", ofBinlogs}, {"Receivers", ofReceivers}, {"The bus", ofBus},
	} {
		fmt.Fprintf(&b, "\n## %s\n\n| metric | kind | labels | value |\n|---|---|---|---|\n", g.title)
		for _, f := range g.list {
			what, labels := "gauge", ""
			if f.kind != "" {
				what = string(f.kind)
			}
			for i, l := range f.labels {
				labels += map[bool]string{true: ", "}[i > 0] + "`" + l + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.name, what, labels, f.help)
		}
	}
	return b.String()
}

const referenceHead = "<!-- Generated from gateway/metrics/families.go by `go generate ./gateway/metrics`. Do not edit. -->\n\n" + `# Metrics

` + "`GET /metrics`" + ` is for Prometheus, on the ports of the API. The values name hosts and clusters, so unlike ` + "`/readyz`" + ` it asks for a user: an
[API token](users.md), or name and password. Each user sees the clusters that he may read.

` + "```yaml" + `
scrape_configs:
  - job_name: drydock
    scheme: https
    tls_config: {insecure_skip_verify: true}     # or ca_file
    authorization: {credentials_file: /etc/prometheus/drydock.token}
    static_configs: [{targets: ["drydock.example:10005"]}]
rule_files: [drydock/alerts.yml]
` + "```" + `

[prometheus/alerts.yml](prometheus/alerts.yml) has rules for alerts, with [tests](prometheus/alerts_test.yml);
[prometheus/dashboard.json](prometheus/dashboard.json) is a dashboard to import into Grafana.

What is asked of the bus is asked at most every 10 seconds, however many scrape. When a part of it cannot be read, its metrics are
missing and ` + "`drydock_reading_failed`" + ` says so; the rest is there. Counters begin with the process. Several gateways show the same: scrape
one, or take the ` + "`max`" + ` as the rules do.

No label holds the id of a job or of a backup: the number of series follows from the configuration. The ` + "`_job_`" + ` metrics are about the
servers of the configuration, and for each of them about the tasks that ever ran there.
`

// exprs are the expressions of the rules and of the dashboard, by where they stand.
func exprs(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	data, err := os.ReadFile(docs + "prometheus/alerts.yml")
	if err == nil {
		err = yaml.Unmarshal(data, &rules)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			out["rule "+r.Alert] = r.Expr
		}
	}
	var board struct {
		Templating struct {
			List []struct{ Query any }
		}
		Panels []struct {
			Title   string
			Targets []struct{ RefID, Expr string }
		}
	}
	if data, err = os.ReadFile(docs + "prometheus/dashboard.json"); err == nil {
		err = json.Unmarshal(data, &board)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			out["panel "+p.Title+" "+target.RefID] = strings.NewReplacer("$cluster", "prod").Replace(target.Expr)
		}
	}
	out["variable"] = "drydock_jobs{cluster=\"prod\"}"
	if q := fmt.Sprint(board.Templating.List); !strings.Contains(q, "label_values(drydock_jobs, cluster)") {
		t.Errorf("the variable cluster asks %s", q)
	}
	if len(out) < 40 {
		t.Fatalf("only %d expressions found", len(out))
	}
	return out
}

var selector = regexp.MustCompile(`(drydock_[a-z_]+)(?:\{([^}]*)\})?`)

// A rule on a metric that was renamed never fires, and a panel stays empty, and nobody is told.
func TestRulesAndDashboardAskForWhatThereIs(t *testing.T) {
	t.Parallel()
	byName := map[string]family{}
	for _, f := range families {
		byName[f.name] = f
	}
	asked := map[string]bool{}
	for where, expr := range exprs(t) {
		for _, m := range selector.FindAllStringSubmatch(expr, -1) {
			name := m[1]
			f, ok := byName[name]
			if !ok {
				f = byName[strings.TrimSuffix(name, "_bucket")]
				ok = f.kind == histogram
			}
			if !ok {
				t.Errorf("%s asks for %s, which there is not: %s", where, name, expr)
				continue
			}
			asked[f.name] = true
			for matcher := range strings.SplitSeq(m[2], ",") {
				label := strings.TrimRight(strings.SplitN(matcher, "\"", 2)[0], "=~!")
				if label != "" && !slices.Contains(append([]string{"job", "instance"}, f.labels...), label) {
					t.Errorf("%s: %s has no label %s", where, name, label)
				}
			}
		}
	}
	if len(asked) < len(families)/2 {
		t.Errorf("only %d of %d metrics are used", len(asked), len(families))
	}
}

// promtool runs the tool of Prometheus itself (build/setup.sh installs it).
func promtool(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command("promtool", args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// The rules are what Prometheus takes, each fires when it shall, and the expressions of the dashboard are none that only look well.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", docs+"prometheus/alerts.yml")
	promtool(t, "test", "rules", docs+"prometheus/alerts_test.yml", docs+"prometheus/alerts_week_test.yml")

	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var all []rule
	for where, expr := range exprs(t) {
		if strings.HasPrefix(where, "panel ") {
			all = append(all, rule{fmt.Sprintf("r%d", len(all)), expr})
		}
	}
	data, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": all}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)

	var tests string
	for _, name := range []string{"alerts_test.yml", "alerts_week_test.yml"} {
		data, err := os.ReadFile(docs + "prometheus/" + name)
		if err != nil {
			t.Fatal(err)
		}
		tests += string(data)
	}
	for where := range exprs(t) {
		if name, ok := strings.CutPrefix(where, "rule "); ok && !strings.Contains(tests, name) {
			t.Errorf("no test has %s fire", name)
		}
	}
}
