package bus

import (
	"flag"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	gotoken "go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

//go:generate go test -run TestReferenceIsTheCode -update

var update = flag.Bool("update", false, "rewrite docs/subjects.md from the code")

// Somebody who subscribes by a document that is older than the code waits for messages that never come.
func TestReferenceIsTheCode(t *testing.T) {
	const file = "../docs/subjects.md"
	want := newReference(t).String()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s differs from the code; run go generate ./bus", file)
	}
	for _, cfg := range streams(DefaultLimits()) {
		if !strings.Contains(want, "`"+strings.TrimPrefix(cfg.Name, "KV_")+"`") {
			t.Errorf("%s is missing from the reference", cfg.Name)
		}
	}
}

// reference is what the source says of names and payloads.
type reference struct {
	consts map[string]string // doc by value
	verbs  [][2]string       // of receivers
	funcs  []*doc.Func       // of names.go that return a subject or a key
	types  map[string]*ast.TypeSpec
	docs   map[string]string   // of types
	values map[string][]string // constants of a type of text, by its name
}

func newReference(t *testing.T) *reference {
	t.Helper()
	r := &reference{consts: map[string]string{}, types: map[string]*ast.TypeSpec{}, docs: map[string]string{}, values: map[string][]string{}}
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	fset := gotoken.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
		r.gather(f)
	}
	p, err := doc.NewFromFiles(fset, files, "drydock/bus")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range p.Funcs {
		if strings.Contains(f.Doc, "`drydock.") && fset.Position(f.Decl.Pos()).Filename == "names.go" {
			r.funcs = append(r.funcs, f)
		}
	}
	return r
}

func (r *reference) gather(f *ast.File) {
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, s := range g.Specs {
			switch s := s.(type) {
			case *ast.ValueSpec:
				r.gatherValue(g, s)
			case *ast.TypeSpec:
				r.types[s.Name.Name] = s
				r.docs[s.Name.Name] = sentence(g.Doc.Text() + s.Doc.Text())
			}
		}
	}
}

// gatherValue takes in constants of text.
func (r *reference) gatherValue(g *ast.GenDecl, s *ast.ValueSpec) {
	text := s.Doc.Text()
	if text == "" && len(g.Specs) <= 2 {
		text = g.Doc.Text()
	}
	for i, v := range s.Values {
		lit, ok := v.(*ast.BasicLit)
		if !ok || lit.Kind != gotoken.STRING {
			continue
		}
		value := strings.Trim(lit.Value, `"`)
		r.consts[value] = sentence(text)
		if strings.HasPrefix(s.Names[i].Name, "Verb") {
			r.verbs = append(r.verbs, [2]string{value, commentText(s.Comment.Text())})
		}
		if id, ok := s.Type.(*ast.Ident); ok {
			r.values[id.Name] = append(r.values[id.Name], "`"+value+"`")
		}
	}
}

var link = regexp.MustCompile(`\[([A-Za-z.]+)\]`)

// sentence is a doc comment as one line of Markdown, without the name that it begins with.
func sentence(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if _, rest, ok := strings.Cut(text, " "); ok {
		text = rest
	}
	for _, verb := range []string{"is ", "holds "} {
		text = strings.TrimPrefix(text, verb)
	}
	text = link.ReplaceAllString(text, "`$1`")
	return strings.ReplaceAll(text, "|", `\|`)
}

func (r *reference) String() string {
	var b strings.Builder
	b.WriteString(referenceHead)
	b.WriteString("\n## Streams\n\n| stream | subjects | what it holds | kept |\n|---|---|---|---|\n")
	all := streams(DefaultLimits())
	for _, cfg := range all {
		if strings.HasPrefix(cfg.Name, "KV_") {
			continue
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s |\n", cfg.Name, strings.Join(cfg.Subjects, "`, `"), r.consts[cfg.Name], kept(cfg.MaxAge, cfg.MaxBytes))
	}
	b.WriteString("\nThe limits are the defaults of the keys `nats-*-max-age` and `nats-*-max-bytes` ([configuration.md](configuration.md)).\n")
	b.WriteString("\n## Buckets\n\n| bucket | stream behind it | what it holds | at most |\n|---|---|---|---|\n")
	for _, cfg := range all {
		if name, ok := strings.CutPrefix(cfg.Name, "KV_"); ok {
			fmt.Fprintf(&b, "| `%s` | `%s`, `%s` | %s | %s |\n", name, cfg.Name, cfg.Subjects[0], r.consts[name], kept(0, cfg.MaxBytes))
		}
	}
	b.WriteString("\nThe keys of each, one by one: [bus.md](bus.md#buckets).\n")
	b.WriteString("\n## Subjects\n\n| made by | subject |\n|---|---|\n")
	for _, f := range r.funcs {
		fmt.Fprintf(&b, "| `bus.%s` | %s |\n", f.Name, sentence(f.Doc))
	}
	b.WriteString("\n| verb of a receiver | what |\n|---|---|\n")
	for _, v := range r.verbs {
		fmt.Fprintf(&b, "| `%s` | %s |\n", v[0], v[1])
	}
	b.WriteString("\n## Services and consumers\n\n| name | what |\n|---|---|\n")
	for _, name := range []string{SubjectReceiverOpen, SubjectNext, SubjectNotifyTest, ReceiverService, KeeperService, SchedulerService, NotifierService, DurableFanout, DurablePings} {
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, r.consts[name])
	}
	b.WriteString("\n## Payloads\n\nJSON. `type` says which, and its version: another number is another meaning. Times are RFC 3339 in UTC.\n")
	for _, p := range payloads {
		fmt.Fprintf(&b, "\n### %s\n\n%s%s\n\n| member | type | |\n|---|---|---|\n", p.name, upper(r.docs[p.name]), typ(p))
		for _, f := range r.types[p.name].Type.(*ast.StructType).Fields.List {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", member(f), r.typeName(f.Type), comment(f))
		}
	}
	return b.String()
}

// payload is a type of messages, with the name of its version where it carries one.
type payload struct{ name, version string }

var payloads = []payload{
	{"JobEvent", TypeJob}, {"Tick", TypeTick}, {"LogBatch", TypeLog}, {"Progress", TypeProgress}, {"Alert", TypeAlert},
	{"Notification", TypeNotification}, {"Told", ""}, {"Audit", TypeAudit},
	{"OpenRequest", ""}, {"OpenReply", ""}, {"CloseRequest", ""}, {"CommitRequest", ""}, {"CommitReply", ""}, {"CheckReply", ""},
	{"SendRequest", ""}, {"SendReply", ""}, {"PlanRequest", ""}, {"PlanReply", ""}, {"PlanItem", ""}, {"PruneRequest", ""},
	{"PruneReply", ""}, {"PruneOutcome", ""}, {"DiskReply", ""}, {"RejectedCount", ""}, {"PortsReply", ""},
	{"NextReply", ""}, {"ScheduleInfo", ""}, {"Barred", ""}, {"Switch", ""}, {"NotifyTestRequest", ""},
}

// A message that nobody can look up is one that only its writer reads.
func TestEveryPayloadIsInTheReference(t *testing.T) {
	t.Parallel()
	listed := map[string]bool{"Reader": true} // of a bucket, and nobody's message
	for _, p := range payloads {
		listed[p.name] = true
	}
	for name, spec := range newReference(t).types {
		if ast.IsExported(name) && !listed[name] && isJSON(spec) {
			t.Errorf("%s is a message and not in the reference", name)
		}
	}
}

// isJSON reports whether a type is a struct whose members are named for JSON.
func isJSON(spec *ast.TypeSpec) bool {
	s, ok := spec.Type.(*ast.StructType)
	return ok && slices.ContainsFunc(s.Fields.List, func(f *ast.Field) bool { return f.Tag != nil && jsonTag.MatchString(f.Tag.Value) })
}

func typ(p payload) string {
	if p.version == "" {
		return ""
	}
	return " `type` is `" + p.version + "`."
}

func upper(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

var jsonTag = regexp.MustCompile(`json:"([^",]+)`)

func member(f *ast.Field) string {
	if m := jsonTag.FindStringSubmatch(f.Tag.Value); m != nil {
		return m[1]
	}
	return f.Names[0].Name
}

// comment is what stands before and behind a field.
func comment(f *ast.Field) string {
	return commentText(f.Doc.Text() + " " + f.Comment.Text())
}

func commentText(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	return strings.ReplaceAll(link.ReplaceAllString(text, "`$1`"), "|", `\|`)
}

// typeName is a type as JSON has it; those of other messages and packages keep their names.
func (r *reference) typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return r.typeName(e.X)
	case *ast.ArrayType:
		return "list of " + r.typeName(e.Elt)
	case *ast.MapType:
		return "object of " + r.typeName(e.Value)
	case *ast.SelectorExpr:
		if name := e.X.(*ast.Ident).Name + "." + e.Sel.Name; name != "time.Time" {
			return "[`" + name + "`](../job/job.go)"
		}
		return "time"
	case *ast.Ident:
		switch e.Name {
		case "int", "int64", "uint64", "float64":
			return "number"
		case "bool":
			return "true or false"
		case "string":
			return "text"
		}
		if spec := r.types[e.Name]; spec != nil {
			if _, ok := spec.Type.(*ast.StructType); ok {
				return fmt.Sprintf("[%s](#%s)", e.Name, strings.ToLower(e.Name))
			}
			return "text (" + strings.Join(r.values[e.Name], ", ") + ")"
		}
		return e.Name
	}
	return fmt.Sprintf("%T", e)
}

func kept(age time.Duration, bytes int64) string {
	size := fmt.Sprintf("%d MiB", bytes>>20)
	if bytes >= 1<<30 {
		size = fmt.Sprintf("%d GiB", bytes>>30)
	}
	if age == 0 {
		return size
	}
	return fmt.Sprintf("%d days, %s", int(age.Hours()/24), size)
}

const referenceHead = "<!-- Generated from the code of bus/ by `go generate ./bus`. Do not edit. -->\n\n" + `# Subjects, streams, buckets and payloads

The reference to [the bus](bus.md). ` + "`<server>` in it is two tokens, host and port: `10.0.1.5:3306` is `10_0_1_5.3306`." + `
In a cluster's name and elsewhere, each byte that could not stand in a token is ` + "`=HH`" + `.
`
