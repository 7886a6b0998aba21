package main

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "rewrite the fields in docs/cli.md from the types")

// Scripts go by these names: one that is renamed or gone is found here before it is found by them. A new one is added with
// go generate ./cmd/drydock.
func TestFieldsOfListingsAreThoseOfTheDocument(t *testing.T) {
	t.Parallel()
	const file, begin, end = "../../docs/cli.md", "<!-- fields: go generate ./cmd/drydock -->\n\n", "<!-- end of fields -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	was, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the fields", file)
	}
	var now strings.Builder
	writeSchemas(&now)
	if now.String() == was {
		return
	}
	if !*update {
		t.Fatalf("the fields in %s are not those of the types; if none is renamed or gone, run go generate ./cmd/drydock", file)
	}
	for _, line := range strings.Split(was, "\n") {
		if line != "" && !strings.Contains(now.String(), line+"\n") {
			t.Logf("gone: %s", line)
		}
	}
	if err := os.WriteFile(file, []byte(before+begin+now.String()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A listing that is not in the document has a form that nobody promised.
func TestEveryListingHasItsFieldsInTheDocument(t *testing.T) {
	t.Parallel()
	root := newRoot()
	each(root, func(cmd *cobra.Command) {
		if cmd.Flags().Lookup("output") == nil {
			return
		}
		path := strings.TrimPrefix(cmd.CommandPath(), "drydock ")
		if !slices.ContainsFunc(schemas, func(s struct {
			command string
			of      any
		}) bool {
			return s.command == path
		}) {
			t.Errorf("%s has -o and no schema", path)
		}
	})
}
