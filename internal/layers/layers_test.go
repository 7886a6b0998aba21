// Package layers holds the test of the direction of imports, and no code.
package layers

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// layers are the packages by their first folder, the lowest first: imports go down only. Packages of one folder may import
// each other.
var layers = [][]string{
	{"job", "window", "calendar", "dump", "xbstream", "scripts", "retention", "durable", "child"}, // each stands alone
	{"bus", "config"},
	{"store"},
	{"pruning", "restore", "explain"}, // what several services and the commands do
	{"scheduler", "gateway", "receiver", "alert"},
	{"app"},
	{"demo"},
	{"cmd", "bench", "e2e"},
}

// onlyAbove lists what is for the layers above the services: they get a Config of their own from app.
var onlyAbove = []string{"config"}

// tools are for tests, and may import what they like; of them only two are for programs: servers to play with.
const tools = "internal"

var toolsOfPrograms = []string{"internal/mariadbd", "internal/splitrig"}

// What is mixed up once is never parted again: services meet on the bus only, and nothing below knows what is above it.
func TestImportsGoOneWay(t *testing.T) {
	t.Parallel()
	const root, module = "../..", "drydock/"
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin" || d.Name() == "dist") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		from, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		seen[folder(from)] = true
		for _, i := range file.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			if to, ours := strings.CutPrefix(name, module); ours {
				if why := against(from, to); why != "" {
					t.Errorf("%s imports %s: %s", path, name, why)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range seen {
		if name != tools && layerOf(name) < 0 && !generator(name) {
			t.Errorf("%s has no layer: give it one", name)
		}
	}
	for _, l := range layers {
		for _, name := range l {
			if _, err := os.Stat(filepath.Join(root, name)); err != nil {
				t.Errorf("%s has a layer: %v", name, err)
			}
		}
	}
}

// The rule itself must refuse what it is for.
func TestTheRuleOfImports(t *testing.T) {
	t.Parallel()
	for pair, allowed := range map[[2]string]bool{
		{"gateway", "store"}: true, {"gateway/web", "gateway/auth"}: true, {"cmd/drydock", "job"}: true, {"app", "config"}: true, {"config", "window"}: true, {"bench/chaos", "internal/splitrig"}: true, {"demo", "internal/mariadbd"}: true,
		{"gateway", "receiver"}: false, {"store", "scheduler"}: false, {"job", "window"}: false, {"bus", "store"}: false, {"scheduler", "config"}: false, {"pruning", "restore"}: false,
		{"bus", "config"}: false, {"receiver", "app"}: false, {"app", "internal/bustest"}: false, {"gateway", "internal/mariadbd"}: false, {"nowhere", "job"}: false,
	} {
		if why := against(pair[0], pair[1]); (why == "") != allowed {
			t.Errorf("%s imports %s: %q, allowed is %v", pair[0], pair[1], why, allowed)
		}
	}
}

// against says what speaks against an import of one package by another; empty: nothing.
func against(from, to string) string {
	a, b := layerOf(folder(from)), layerOf(folder(to))
	switch {
	case folder(from) == tools || folder(from) == folder(to) || generator(from):
		return ""
	case slices.Contains(toolsOfPrograms, to) && a > layerOf("app"):
		return ""
	case folder(to) == tools:
		return "it is for tests"
	case a < 0 || b < 0:
		return "a package without a layer"
	case a == b:
		return "packages of one layer do not know each other"
	case a < b:
		return "imports go down only"
	case slices.Contains(onlyAbove, folder(to)) && a < layerOf("app"):
		return "app fills a Config of the package's own"
	}
	return ""
}

func layerOf(name string) int {
	return slices.IndexFunc(layers, func(l []string) bool { return slices.Contains(l, name) })
}

// folder is the first folder of a package.
func folder(pkg string) string {
	first, _, _ := strings.Cut(filepath.ToSlash(pkg), "/")
	return first
}

// generator reports whether a package is outside the program: examples of the documentation.
func generator(pkg string) bool { return folder(pkg) == "docs" }
