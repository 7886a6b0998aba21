package config

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite docs/configuration.md from the table")

func TestDocumentIsTheTable(t *testing.T) {
	const file = "../docs/configuration.md"
	if *update {
		if err := os.WriteFile(file, []byte(Doc()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != Doc() {
		t.Errorf("%s differs from the table; run go generate ./config", file)
	}
}

func TestEveryKeyIsDocumented(t *testing.T) {
	t.Parallel()
	doc, names := Doc(), map[string]bool{}
	for _, k := range Keys() {
		if names[k.Name] {
			t.Errorf("%s stands in the table twice", k.Name)
		}
		names[k.Name] = true
		if k.Doc == "" || k.Values == "" || k.Group == "" || !strings.HasSuffix(k.Doc, ".") {
			t.Errorf("%s lacks a doc sentence, its values or its group", k.Name)
		}
		if !strings.Contains(doc, "| `"+k.Name+"` |") {
			t.Errorf("%s is missing from the document", k.Name)
		}
		text, err := Explain(k.Name)
		if err != nil || !strings.Contains(text, k.Doc) || !strings.Contains(text, k.EnvName()) {
			t.Errorf("Explain(%q) = %q, %v", k.Name, text, err)
		}
		// A prefix may cover it: what is in the table is never looked up there.
		if _, ok := later[k.Name]; ok || slices.Contains(foreign, k.Name) {
			t.Errorf("%s is also listed as a key without use", k.Name)
		}
	}
	if _, err := Explain("htp-port"); err == nil || !strings.Contains(err.Error(), `"http-port"`) {
		t.Errorf("Explain of a misspelt key: %v", err)
	}
}

func TestDefaultsPassTheirOwnChecks(t *testing.T) {
	t.Parallel()
	for _, k := range append(globalKeys(new(globals)), clusterKeys(new(Cluster))...) {
		if k.Default == "" {
			continue
		}
		err := k.parse(value{items: []string{k.Default}}, func(s string) (Secret, error) { return Secret(s), nil })
		if err != nil {
			t.Errorf("%s = %q: %v", k.Name, k.Default, err)
		}
	}
}

func TestSampleIsElevenLinesThatWork(t *testing.T) {
	t.Parallel()
	if n := strings.Count(Sample(), "\n"); n != 11 {
		t.Errorf("sample has %d lines", n)
	}
	cfg, err := newLoader([]string{"ADMIN_PASSWORD=a", "DB_PASSWORD=b"}).load("drydock.toml", []byte(Sample()))
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Warnings)+len(cfg.Ignored) > 0 {
		t.Errorf("sample gives remarks: %v %v", cfg.Warnings, cfg.Ignored)
	}
	prod, ok := cfg.Cluster("prod")
	if !ok || len(prod.Servers) != 2 || prod.Password.Reveal() != "b" || !prod.PhysicalBackup.Enabled {
		t.Errorf("sample reads as %+v", prod)
	}
}
