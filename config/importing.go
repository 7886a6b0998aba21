package config

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Verdict is what becomes of a key of replication-manager.
type Verdict string

// The verdicts.
const (
	Maps        Verdict = "maps"    // taken as it is
	Changed     Verdict = "changed" // taken, and not as it is
	ByReference Verdict = "secret"  // taken, with a reference in place of the password
	Nothing     Verdict = "nothing" // does nothing here
	Refused     Verdict = "refused" // has a meaning here, and cannot be taken
	Unknown     Verdict = "unknown" // no key that drydock knows of
)

// Imported is one key of replication-manager's configuration and what becomes of it.
type Imported struct {
	Verdict Verdict `json:"verdict"`
	Section string  `json:"section"`
	Key     string  `json:"key"`
	Where   string  `json:"where"` // file:line
	Text    string  `json:"text,omitempty"`
}

// SecretsAs says what stands in place of passwords.
type SecretsAs string

// The ways to hold a password.
const (
	SecretsEnv  SecretsAs = "env"  // env:NAME
	SecretsFile SecretsAs = "file" // file:secrets/NAME
	SecretsCopy SecretsAs = "copy" // the password itself
)

// ImportOptions are what [Import] may be told.
type ImportOptions struct {
	Secrets  SecretsAs
	TakeOver bool // leave the switches of the schedules as they are
}

// Import is the outcome of [ImportFiles].
type Import struct {
	Keys []Imported `json:"keys"`
	// TOML is a configuration of drydock. It holds no password unless that was asked for.
	TOML string `json:"toml"`
	// References are what its secrets refer to, each as env:NAME or file:PATH, with what belongs there.
	References []Reference `json:"references"`
	// Open is what drydock would not take in it; empty when it is complete but for the secrets.
	Open []string `json:"open,omitempty"`
}

// Reference is a secret that stands elsewhere.
type Reference struct {
	Name string `json:"name"`
	For  string `json:"for"`
}

// ImportFiles reads configurations of replication-manager, in the order in which they count, and makes one of drydock of them. Its
// sections saved-NAME and overwrite-NAME replace what stands in NAME, as they do there. Errors: files that cannot be read or are
// no TOML.
func ImportFiles(files []string, o ImportOptions) (*Import, error) {
	l := newLoader(nil)
	l.anyCase = true
	for i, file := range files {
		data, err := readRegular(file)
		if err != nil {
			return nil, fmt.Errorf("read configuration of replication-manager: %w", err)
		}
		if i == 0 {
			l.dir, l.def.pos = filepath.Dir(file), pos{file: file, fileNo: 1}
		}
		if !l.read(file, data) {
			return nil, l.failure()
		}
	}
	if err := l.readTheirInclude(files); err != nil {
		return nil, err
	}
	im := &importer{loader: l, o: o, out: &Import{Keys: []Imported{}, References: []Reference{}}, taken: map[string]string{}}
	im.run()
	return im.out, nil
}

// readTheirInclude reads the folder that [Default] includes, where it exists here: the file may be a copy from another machine.
func (l *loader) readTheirInclude(given []string) error {
	v, ok := l.def.values["include"]
	if !ok || v.text() == "" {
		return nil
	}
	found, err := filepath.Glob(filepath.Join(l.path(v.text()), "*.toml"))
	if err != nil {
		return nil // a name with wildcards is no folder of theirs
	}
	for _, file := range found {
		if slices.ContainsFunc(given, func(g string) bool { return sameFile(g, file) }) {
			continue
		}
		data, err := readRegular(file)
		if err != nil {
			return fmt.Errorf("read what replication-manager includes: %w", err)
		}
		if !l.read(file, data) {
			return l.failure()
		}
	}
	return nil
}

// importer makes one configuration of the sections that a loader read.
type importer struct {
	*loader
	o     ImportOptions
	out   *Import
	taken map[string]string // what a reference is for, by its name
}

func (im *importer) run() {
	im.fold()
	for _, r := range im.problems { // single keys that could not be read
		im.note(Refused, "", r.note.Key, r.pos, "%s", r.note.Text)
	}
	im.problems = nil
	im.raise()
	var b strings.Builder
	b.WriteString(importHead(im.o))
	im.section(&b, im.def, ScopeGlobal, ScopeCluster)
	for _, s := range im.clusters {
		im.section(&b, s, ScopeCluster)
	}
	im.out.TOML = b.String()
	im.verify()
	slices.SortStableFunc(im.out.Keys, func(a, b Imported) int {
		return cmp.Or(strings.Compare(a.Section, b.Section), strings.Compare(a.Key, b.Key))
	})
	slices.SortFunc(im.out.References, func(a, b Reference) int { return strings.Compare(a.Name, b.Name) })
}

// fold brings names to lower case and lays the sections that replication-manager wrote itself over those of people.
func (im *importer) fold() {
	for _, s := range append([]*section{im.def}, im.clusters...) {
		values := map[string]value{}
		for name, v := range s.values {
			values[strings.ToLower(name)] = v
		}
		s.values = values
	}
	for _, prefix := range []string{"saved-", "overwrite-"} {
		im.clusters = slices.DeleteFunc(im.clusters, func(s *section) bool {
			name, ok := strings.CutPrefix(s.name, prefix)
			if !ok {
				return false
			}
			target := im.byName[name]
			if strings.EqualFold(name, "default") {
				target = im.def
			}
			if target == nil {
				s.name = name // nobody but replication-manager wrote of it
				im.byName[name] = s
				return false
			}
			maps.Copy(target.values, s.values)
			return true
		})
	}
}

// raise moves keys of the whole process out of clusters, where no other value contradicts.
func (im *importer) raise() {
	for _, s := range im.clusters {
		for _, name := range slices.Sorted(maps.Keys(s.values)) {
			k, ok := lookup(name)
			if !ok || k.Scope != ScopeGlobal {
				continue
			}
			v := s.values[name]
			delete(s.values, name)
			switch now, has := im.def.values[name]; {
			case !has:
				im.def.values[name] = v
				im.note(Changed, s.name, name, v.pos, "concerns the whole process here: moved to [Default]")
			case now.text() == v.text():
				im.note(Nothing, s.name, name, v.pos, "stands in [Default] already")
			default:
				im.note(Refused, s.name, name, v.pos, "concerns the whole process here, and another value is in [Default] or in another cluster: left out")
			}
		}
	}
}

func (im *importer) note(v Verdict, section, key string, at pos, format string, args ...any) {
	im.out.Keys = append(im.out.Keys, Imported{v, section, key, at.String(), fmt.Sprintf(format, args...)})
}

// section writes one section: its keys in the order of the table.
func (im *importer) section(b *strings.Builder, s *section, scopes ...Scope) {
	fmt.Fprintf(b, "\n[%s]\n", s.name)
	for _, k := range append(globalKeys(new(globals)), clusterKeys(new(Cluster))...) {
		v, ok := s.values[k.Name]
		if !ok || !slices.Contains(scopes, k.Scope) {
			continue
		}
		delete(s.values, k.Name)
		if text := im.take(s, k, v); text != "" {
			fmt.Fprintf(b, "%s = %s\n", k.Name, text)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.values)) {
		im.judgeTheirs(s, name, s.values[name])
	}
}

// judgeTheirs says what becomes of a key that is not in the table.
func (im *importer) judgeTheirs(s *section, name string, v value) {
	if what, ok := later[name]; ok {
		if on, err := parseBool(v.text()); on || err != nil {
			im.note(Refused, s.name, name, v.pos, "asks for %s, which is not built yet: left out", what)
			return
		}
		im.note(Nothing, s.name, name, v.pos, "is off, and not built yet")
		return
	}
	for _, f := range foreignKeys {
		if listed(name, f.names) {
			im.note(Nothing, s.name, name, v.pos, "%s", f.why)
			return
		}
	}
	near, distance := nearest(name)
	if distance <= 2 {
		im.note(Unknown, s.name, clip(name), v.pos, "left out; should it be %q?", near)
		return
	}
	im.note(Unknown, s.name, clip(name), v.pos, "left out; drydock does not know what it means")
}

// differences are keys whose name both know and whose meaning is not quite the same.
var differences = map[string]string{
	"backup-keep-hourly":                   keepDiffers,
	"backup-keep-daily":                    keepDiffers,
	"backup-keep-weekly":                   keepDiffers,
	"backup-keep-monthly":                  keepDiffers,
	"backup-keep-yearly":                   keepDiffers,
	"backup-mysqldump-options":             "drydock adds connection and position by itself; what it counts on is refused here",
	"backup-mydumper-options":              "drydock adds connection and folder by itself; what it counts on is refused here",
	"backup-restic-repository":             "drydock leaves snapshots without its own tags alone, and does not know what they are",
	"db-servers-backup-hosts":              "physical backups come from each of these servers, a logical one from the first that is up",
	"http-port":                            "the same port as replication-manager's: another one while both run on one machine",
	"api-port":                             "the same port as replication-manager's: another one while both run on one machine (scripts speak TLS to 443 and 10005 only)",
	"scheduler-db-servers-sender-ports":    "the same ports as replication-manager's: others while both run on one machine",
	"monitoring-address":                   "",
	"scheduler-db-servers-logical-backup":  "of one server of the cluster, by drydock's own host unless scheduler-jobs-exec-remote says otherwise",
	"scheduler-db-servers-physical-backup": "of every server, unless db-servers-backup-hosts names some",
}

const keepDiffers = "counts for the backup folder, too, once scheduler-backup-prune is on"

// mains are the switches that begin work by themselves.
var mains = []string{"monitoring-scheduler", "scheduler-jobs-ssh"}

// urlSecret finds a password in a URL.
var urlSecret = regexp.MustCompile(`://[^/@\s]*:[^/@\s]+@`)

// take is what to write for a key of the table, "" to leave it out. It says what becomes of it.
func (im *importer) take(s *section, k key, v value) string {
	switch {
	case k.Name == "include":
		im.note(Changed, s.name, k.Name, v.pos, "its files, where they are here, are in the output; left out")
		return ""
	case k.Name == "monitoring-datadir":
		im.note(Changed, s.name, k.Name, v.pos, "drydock keeps a folder of its own, /var/lib/drydock; never point it at replication-manager's")
		return `"/var/lib/drydock"`
	case v.text() == "" && !v.list:
		im.note(Nothing, s.name, k.Name, v.pos, "is empty; the default holds")
		return ""
	case k.Secret:
		return im.takeSecret(s, k, v)
	case urlSecret.MatchString(v.text()):
		im.note(Refused, s.name, k.Name, v.pos, "has a password in a URL, which is not copied: left out, write it by hand")
		return ""
	}
	if err := k.parse(v, func(string) (Secret, error) { return "", nil }); err != nil {
		im.note(Refused, s.name, k.Name, v.pos, "%v: left out", err)
		return ""
	}
	if on, _ := parseBool(v.text()); on && !im.o.TakeOver && slices.Contains(mains, k.Name) {
		im.note(Changed, s.name, k.Name, v.pos, "written as false, so that nothing runs twice; switch it on when replication-manager's is off (docs/moving.md)")
		return "false # true when replication-manager's is off"
	}
	if why := differences[k.Name]; why != "" {
		im.note(Changed, s.name, k.Name, v.pos, "%s", why)
	} else {
		im.note(Maps, s.name, k.Name, v.pos, "")
	}
	return tomlValue(v)
}

// takeSecret writes a key whose value has a password in it.
func (im *importer) takeSecret(s *section, k key, v value) string {
	var out []string
	items := v.items
	users, list := strings.Contains(k.Values, "user:password"), strings.HasPrefix(k.Values, "list of")
	if list {
		items = joinPasswords(v.split(), users)
	}
	encrypted := false
	for _, item := range items {
		user, secret, has := "", item, true
		if users {
			user, secret, has = strings.Cut(item, ":")
		}
		if !has && k.Values == "user:password" {
			user, secret, has = "", item, true // whatever it is, it may be the password
		}
		hashed := strings.HasPrefix(secret, "hash_")
		encrypted = encrypted || hashed
		switch {
		case !has || isReference(secret):
			out = append(out, item)
			continue
		case im.o.Secrets == SecretsCopy && !hashed:
			out = append(out, item)
			continue
		}
		ref := im.reference(s, k.Name, user, list)
		if users && user != "" {
			ref = user + ":" + ref
		}
		out = append(out, ref)
	}
	switch {
	case encrypted:
		im.note(ByReference, s.name, k.Name, v.pos, "a password in it is encrypted by replication-manager, which only that can read: enter it anew behind the reference")
	case im.o.Secrets == SecretsCopy:
		im.note(Maps, s.name, k.Name, v.pos, "copied with its password, as you asked")
	default:
		im.note(ByReference, s.name, k.Name, v.pos, "the password is not copied: put it behind the reference")
	}
	if v.list || len(out) > 1 {
		return tomlValue(value{items: out, list: true})
	}
	return quote(strings.Join(out, ","))
}

// joinPasswords puts the pieces of passwords with commas together again: in a list of user:password, what has no colon belongs to
// the password before it.
func joinPasswords(items []string, users bool) (out []string) {
	for _, item := range items {
		if users && len(out) > 0 && !strings.Contains(item, ":") {
			out[len(out)-1] += "," + item
			continue
		}
		out = append(out, item)
	}
	return out
}

var notName = regexp.MustCompile(`[^A-Z0-9]+`)

// reference makes a name for a secret: of the cluster, the key, and of lists the user.
func (im *importer) reference(s *section, key, user string, list bool) string {
	name := key
	if s != im.def {
		name = s.name + "_" + key
	}
	if list {
		name += "_" + user
	}
	name = strings.Trim(notName.ReplaceAllString(strings.ToUpper(name), "_"), "_")
	if name == "" || name[0] >= '0' && name[0] <= '9' || strings.HasPrefix(name, envPrefix) {
		name = "REPMAN_" + name // a variable that begins so is no key of drydock
	}
	what := key + " of [" + s.name + "]"
	if user != "" {
		what += ", user " + user
	}
	for base, i := name, 2; im.taken[name] != "" && im.taken[name] != what; i++ {
		name = fmt.Sprintf("%s_%d", base, i)
	}
	ref := "env:" + name
	if im.o.Secrets == SecretsFile {
		ref = "file:secrets/" + strings.ToLower(name)
	}
	if im.taken[name] == "" {
		im.taken[name] = what
		im.out.References = append(im.out.References, Reference{ref, what})
	}
	return ref
}

// verify reads the output as drydock would, but for the secrets.
func (im *importer) verify() {
	l := newLoader(nil)
	l.leaveSecrets = true
	if _, err := l.load("drydock.toml", []byte(im.out.TOML)); err != nil {
		im.out.Open = strings.Split(err.Error(), "\n")
	}
}

// tomlValue writes a value as TOML.
func tomlValue(v value) string {
	if !v.list {
		return bare(v.text())
	}
	var items []string
	for _, item := range v.items {
		items = append(items, bare(item))
	}
	return "[" + strings.Join(items, ", ") + "]"
}

var number = regexp.MustCompile(`^(0|[1-9][0-9]{0,17})$`)

func bare(s string) string {
	if s == "true" || s == "false" || number.MatchString(s) {
		return s
	}
	return quote(s)
}

// quote writes a string as TOML does, whose escapes are those of JSON.
func quote(s string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if enc.Encode(s) != nil {
		return `""` // a string always encodes
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func importHead(o ImportOptions) string {
	head := "# Made by drydock import-repman. Every key: docs/configuration.md; what to do next: docs/moving.md.\n"
	if o.Secrets == SecretsCopy {
		head += "# It holds passwords: chmod it to 0600.\n"
	}
	return head
}

// WriteNew writes text into a file that must not be there yet, for its owner only.
func WriteNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write configuration: %w", errors.Join(err, os.Remove(path)))
	}
	return nil
}
