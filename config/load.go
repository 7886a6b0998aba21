package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	envPrefix = "DRYDOCK_"
	// maxFile bounds configuration and secret files, so that a wrong path cannot fill the memory.
	maxFile = 4 << 20
)

// Load reads the file, the folder it includes and the DRYDOCK_ environment variables. The error joins every
// [Problem] found, in the order of files and lines, or says why the file cannot be read.
func Load(path string) (*Config, error) {
	data, err := readRegular(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, data)
}

// LoadForCommand is Load for commands that talk to a running drydock over its bus: secrets that stand elsewhere
// (env:NAME, file:PATH) are not read, but for nats-password. An operator need not have the passwords of every database
// at hand to list jobs.
func LoadForCommand(path string) (*Config, error) {
	data, err := readRegular(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	l := newLoader(os.Environ())
	l.leaveSecrets = true
	return l.load(path, data)
}

// Parse is Load for data already read; name stands for the file in messages and is what relative paths in
// include and file: are relative to.
func Parse(name string, data []byte) (*Config, error) {
	return newLoader(os.Environ()).load(name, data)
}

// loader gathers sections and remarks; it serves one load.
type loader struct {
	env  map[string]string
	root bool // may bind ports below 1024
	// leaveSecrets leaves secrets unread that stand elsewhere; see LoadForCommand.
	leaveSecrets bool
	// anyCase takes [default] for [Default], as replication-manager does.
	anyCase bool

	dir      string // folder of the main file
	files    int
	def      *section
	clusters []*section
	byName   map[string]*section
	envUsed  map[string]bool // variables that env: asked for
	open     map[string]bool // files readable by everybody

	problems, warnings, ignored []remark
}

// remark is a Note that can still be sorted.
type remark struct {
	pos  pos
	note Note
}

func newLoader(environ []string) *loader {
	l := &loader{
		env:     map[string]string{},
		root:    os.Geteuid() == 0,
		def:     &section{name: "Default", values: map[string]value{}},
		byName:  map[string]*section{},
		envUsed: map[string]bool{},
		open:    map[string]bool{},
	}
	for _, e := range environ {
		// An empty variable counts as unset: that is what compose files make of an absent one.
		if name, v, _ := strings.Cut(e, "="); v != "" {
			l.env[name] = v
		}
	}
	return l
}

func remarkOn(at pos, key, format string, args ...any) remark {
	return remark{at, Note{Pos: at.String(), Key: key, Text: fmt.Sprintf(format, args...)}}
}

func (l *loader) problem(at pos, key, format string, args ...any) {
	l.problems = append(l.problems, remarkOn(at, key, format, args...))
}

func (l *loader) warn(at pos, key, format string, args ...any) {
	l.warnings = append(l.warnings, remarkOn(at, key, format, args...))
}

func (l *loader) ignore(at pos, key, format string, args ...any) {
	l.ignored = append(l.ignored, remarkOn(at, key, format, args...))
}

func (l *loader) load(name string, data []byte) (*Config, error) {
	l.dir = filepath.Dir(name)
	l.def.pos = pos{file: name, fileNo: 1}
	cfg := &Config{File: name}
	if !l.readAll(name, data) {
		return nil, l.failure()
	}
	l.sortOutUnknown()

	g := l.global()
	cfg.Global = g.Global
	l.checkDefaults()
	for _, s := range l.clusters {
		c := l.cluster(s)
		l.knownUsers(g.Users, c, s)
		cfg.Clusters = append(cfg.Clusters, c)
	}
	l.checkGlobal(&cfg.Global)
	l.checkClusters(&cfg.Global, cfg.Clusters)
	if err := l.failure(); err != nil {
		return nil, err
	}
	cfg.Warnings, cfg.Ignored = notes(l.warnings), notes(l.ignored)
	return cfg, nil
}

// readAll reads the main file and then the folder it includes; false when one of them is not TOML.
func (l *loader) readAll(name string, data []byte) bool {
	l.noteMode(name)
	if !l.read(name, data) {
		return false
	}
	v, ok := l.written(Key{Name: "include"}, nil)
	if !ok || v.text() == "" {
		return true
	}
	folder := l.path(v.text())
	entries, err := os.ReadDir(folder) // sorted by name
	if err != nil {
		l.problem(v.pos, "include", "cannot be read: %v; give a folder", err)
		return true
	}
	good := true
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".toml" {
			good = l.readIncluded(v, filepath.Join(folder, e.Name())) && good
		}
	}
	return good
}

func (l *loader) readIncluded(include value, file string) bool {
	if sameFile(file, l.def.pos.file) {
		return true // the main file may live in its own include folder
	}
	data, err := readRegular(file)
	if err != nil {
		l.problem(include.pos, "include", "cannot be read: %v; correct or remove that file", err)
		return true
	}
	l.noteMode(file)
	before, had := l.def.values["include"]
	good := l.read(file, data)
	if now, has := l.def.values["include"]; has && now.pos != before.pos {
		l.problem(now.pos, "include", "stands in an included file; includes do not nest")
	}
	if had {
		l.def.values["include"] = before
	}
	return good
}

// EnvName is the environment variable that replaces the key's value in [Default].
func (k Key) EnvName() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(k.Name, "-", "_"))
}

// written finds what was written for a key: in s, in the environment or in [Default], in this order.
func (l *loader) written(k Key, s *section) (value, bool) {
	if s != nil {
		if v, ok := s.values[k.Name]; ok {
			return v, true
		}
	}
	if v, ok := l.env[k.EnvName()]; ok {
		return value{pos: pos{env: k.EnvName()}, items: []string{v}}, true
	}
	v, ok := l.def.values[k.Name]
	return v, ok
}

// apply parses what was written for each key; keys not written keep their default.
func (l *loader) apply(keys []key, s *section) {
	for _, k := range keys {
		v, ok := l.written(k.Key, s)
		if !ok {
			continue
		}
		resolve := func(written string) (Secret, error) { return l.resolve(v.pos, k.Name, written) }
		if err := k.parse(v, resolve); err != nil {
			l.problem(v.pos, k.Name, "%v", err)
		}
	}
}

// global applies the global keys and joins users with their grants.
func (l *loader) global() globals {
	var g globals
	l.apply(globalKeys(&g), nil)
	if g.Include != "" {
		g.Include = l.path(g.Include)
	}
	if g.Notify.Script != "" {
		g.Notify.Script = l.path(g.Notify.Script)
	}
	for _, file := range []*string{&g.APICert, &g.APIKey, &g.NATS.TLSCert, &g.NATS.TLSKey, &g.NATS.TLSCA} {
		if *file != "" {
			*file = l.path(*file)
		}
	}
	g.Users = l.joinUsers(g.credentials, g.acl)
	return g
}

func (l *loader) joinUsers(users, acl []User) []User {
	const key = "api-credentials-acl-allow"
	for _, a := range acl {
		i := slices.IndexFunc(users, func(u User) bool { return u.Name == a.Name })
		if i < 0 && l.unread() {
			continue
		}
		if i < 0 {
			l.problem(l.where(key, nil), key, "names user %q, who is not in api-credentials; add or remove one", a.Name)
			continue
		}
		users[i].Grants = a.Grants
	}
	for _, u := range users {
		if len(u.Grants) == 0 {
			l.warn(l.where("api-credentials", nil), "api-credentials", "user %q has no grants; give some in %s", u.Name, key)
		}
	}
	return users
}

// knownUsers finds the users that a cluster gives grants to and that nobody is.
func (l *loader) knownUsers(users []User, c Cluster, s *section) {
	const key = "api-credentials-acl-cluster"
	for _, a := range c.acl {
		if !l.unread() && !slices.ContainsFunc(users, func(u User) bool { return u.Name == a.Name }) {
			l.problem(l.where(key, s), key, "names user %q, who is not in api-credentials; add or remove one", a.Name)
		}
	}
}

// unread reports whether api-credentials could not be read, or were left alone: then nothing is known of its users.
func (l *loader) unread() bool {
	return l.leaveSecrets || slices.ContainsFunc(l.problems, func(r remark) bool { return r.note.Key == "api-credentials" })
}

// unreadSecret stands for a secret that was left alone, also where user:password is expected.
const unreadSecret = "unread:unread"

// checkDefaults parses the cluster keys of [Default] even when every cluster sets its own.
func (l *loader) checkDefaults() {
	l.apply(clusterKeys(new(Cluster)), nil)
}

// cluster applies the cluster keys to one section.
func (l *loader) cluster(s *section) Cluster {
	c := Cluster{Name: s.name}
	keys := clusterKeys(&c)
	l.apply(keys, s)
	for _, k := range keys {
		if _, ok := l.written(k.Key, s); k.Require && !ok {
			l.problem(s.pos, k.Name, "is missing for cluster %q; add a line such as %s", s.name, example(k.Name))
		}
	}
	for _, u := range c.acl {
		if c.Grants == nil {
			c.Grants = map[string][]string{}
		}
		c.Grants[u.Name] = u.Grants
	}
	onPremise, script := &c.Orchestrator.OnPremise, &c.Orchestrator.Script
	for _, file := range []*string{
		&c.SSH.Key, &c.SSH.KnownHosts, &c.SSH.Script, &c.Rolling.PreScript, &c.Rolling.PostScript, &c.EncryptIdentity, &c.Drill.Scratch,
		&onPremise.Stop, &onPremise.Start, &onPremise.Restart, &onPremise.Bootstrap,
		&script.Stop, &script.Start, &script.Restart, &script.Cleanup, &script.Bootstrap,
	} {
		if *file != "" {
			*file = l.path(*file)
		}
	}
	return c
}

func example(key string) string {
	if key == "db-servers-credential" {
		return key + ` = "drydock:env:DB_PASSWORD"`
	}
	return key + ` = "10.0.1.1:3306,10.0.1.2:3306"`
}

// where is the place a key was written, or the section's own place.
func (l *loader) where(key string, s *section) pos {
	if v, ok := l.written(Key{Name: key}, s); ok {
		return v.pos
	}
	if s != nil {
		return s.pos
	}
	return l.def.pos
}

// path makes a path of the configuration relative to the main file's folder.
func (l *loader) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(l.dir, p)
}

// failure joins the problems in the order of the files, each once: one bad line of [Default] is met in every cluster.
func (l *loader) failure() error {
	var errs []error
	for _, n := range notes(l.problems) {
		errs = append(errs, Problem{n})
	}
	return errors.Join(errs...)
}

func notes(list []remark) []Note {
	slices.SortStableFunc(list, func(a, b remark) int {
		return cmp.Or(cmp.Compare(a.pos.fileNo, b.pos.fileNo), cmp.Compare(a.pos.line, b.pos.line))
	})
	var out []Note
	seen := map[Note]bool{}
	for _, r := range list {
		if !seen[r.note] {
			seen[r.note] = true
			out = append(out, r.note)
		}
	}
	return out
}

// lookup finds a row of the table.
func lookup(name string) (Key, bool) {
	keys := Keys()
	i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return Key{}, false
	}
	return keys[i], true
}

// readRegular reads a regular file of bounded size; a device or a pipe could block for ever.
func readRegular(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("%s is not a regular file of at most %s", path, formatSize(maxFile))
	}
	return os.ReadFile(path)
}

func sameFile(a, b string) bool {
	x, errA := os.Stat(a)
	y, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(x, y)
}

// noteMode remembers which files everybody may read, for the warning about passwords in clear.
func (l *loader) noteMode(file string) {
	if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o004 != 0 {
		l.open[file] = true
	}
}

func isReference(s string) bool {
	return strings.HasPrefix(s, "env:") || strings.HasPrefix(s, "file:")
}

// resolve turns env:NAME and file:PATH into the secret behind it; anything else is the secret itself.
func (l *loader) resolve(at pos, key, written string) (Secret, error) {
	if l.leaveSecrets && isReference(written) && key != "nats-password" {
		return unreadSecret, nil
	}
	if name, ok := strings.CutPrefix(written, "env:"); ok {
		l.envUsed[name] = true
		v := l.env[name]
		if v == "" {
			return "", fmt.Errorf("environment variable %q is not set; export it before drydock starts", clip(name))
		}
		return Secret(v), nil
	}
	path, ok := strings.CutPrefix(written, "file:")
	if !ok {
		if written != "" && l.open[at.file] {
			l.warn(at, key, "holds a password in clear and everybody may read the file; chmod it to 0640 or use env:NAME or file:PATH")
		}
		return Secret(written), nil
	}
	path = l.path(path)
	data, err := readRegular(path)
	if err != nil {
		return "", fmt.Errorf("secret file cannot be read: %w; correct the path or its owner", err)
	}
	data = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	if len(data) == 0 {
		return "", fmt.Errorf("secret file %s is empty; write the password into it", path)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o004 != 0 {
		l.warn(at, key, "secret file %s may be read by everybody; chmod it to 0600", path)
	}
	return Secret(data), nil
}
