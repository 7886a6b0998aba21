// Package splitrig turns the profile "split" of compose.yaml into commands: the same programs, arguments, environment and
// files, with a loopback address in place of each container's name. Whoever runs them decides when, and with what end.
package splitrig

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"syscall"

	"github.com/goccy/go-yaml"
)

// Rig is one deployment. It has no state beside its fields, so another process may have it as JSON.
type Rig struct {
	Repo     string // the folder with compose.yaml
	Dir      string // holds configurations, certificates and, in a folder of its name, what each service keeps
	Drydock  string // the program under test
	NATS     string // the nats-server that was built
	Services map[string]Service
	Addrs    map[string]string // 127.x.y.z by service
	Secrets  map[string]string // what packaging/prepare wrote to .env
	// Detours is where a server of the bus finds another one, host and port by "FROM>TO". Empty: where it is. With one no server
	// learns from the others of a shorter way.
	Detours map[string]string
}

// Service is what the tests need to know of a service in compose.yaml.
type Service struct {
	Profiles    []string          `yaml:"profiles"`
	Command     []string          `yaml:"command"`
	Environment map[string]string `yaml:"environment"`
	Volumes     []string          `yaml:"volumes"`
}

// Monitor is the port on which a NATS server answers /healthz.
const Monitor = 8222

// Build builds the official nats-server, in the version that drydock embeds, into an absolute path.
func Build(repo, path string) error {
	cmd := exec.Command("go", "build", "-o", path, "github.com/nats-io/nats-server/v2")
	cmd.Dir = repo
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build nats-server: %w\n%s", err, out)
	}
	return nil
}

// New gives each service of the profile an address and makes passwords and certificates. Drydock and NATS are set by the caller.
func New(repo, dir string) (*Rig, error) {
	r := &Rig{Repo: repo, Dir: dir, Services: map[string]Service{}, Addrs: map[string]string{}, Secrets: map[string]string{}}
	text, err := os.ReadFile(filepath.Join(repo, "compose.yaml"))
	if err != nil {
		return nil, err
	}
	var file struct {
		Services map[string]Service `yaml:"services"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("read compose.yaml: %w", err)
	}
	for name, c := range file.Services {
		if slices.Contains(c.Profiles, "split") {
			r.Services[name] = c
		}
	}
	// A network of our own, so that each process has the ports that its container would have.
	network := fmt.Sprintf("127.%d.%d.", 64+rand.IntN(128), rand.IntN(256))
	var nodes []string
	for i, name := range r.Names() {
		r.Addrs[name] = fmt.Sprint(network, i+1)
		if IsNATS(name) {
			nodes = append(nodes, r.Addrs[name])
		}
	}
	if len(nodes) != 3 || len(r.Addrs) != 10 {
		return nil, fmt.Errorf("compose.yaml has these in the profile split: %v", r.Names())
	}
	if out, err := exec.Command(filepath.Join(repo, "packaging/prepare"), append([]string{dir}, nodes...)...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("packaging/prepare: %w\n%s", err, out)
	}
	return r, r.readSecrets()
}

func (r *Rig) readSecrets() error {
	env, err := os.ReadFile(filepath.Join(r.Dir, ".env"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(env)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		r.Secrets[name] = value
	}
	if len(r.Secrets) != 3 {
		return fmt.Errorf("packaging/prepare made %d secrets", len(r.Secrets))
	}
	return nil
}

// Names lists the services in order.
func (r *Rig) Names() (names []string) {
	for name := range r.Services {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// IsNATS says whether a service is a server of the bus.
func IsNATS(name string) bool { return strings.HasPrefix(name, "nats-") }

// CA is the certificate of the authority that the bus's servers have theirs from.
func (r *Rig) CA() string { return filepath.Join(r.tls(), "ca.pem") }

func (r *Rig) tls() string { return filepath.Join(r.Dir, "packaging/split/tls") }

// Home is where a service keeps its files.
func (r *Rig) Home(name string) string { return filepath.Join(r.Dir, name) }

// Text is the configuration that compose mounts into a service, with this machine's addresses and folders.
func (r *Rig) Text(name string) (string, error) {
	from := "drydock.toml"
	if IsNATS(name) {
		from = name + ".conf"
	}
	text, err := os.ReadFile(filepath.Join(r.Repo, "packaging/split", from))
	if err != nil {
		return "", err
	}
	home := r.Home(name)
	pairs := []string{"/etc/nats/tls", r.tls(), "/etc/drydock/tls", r.tls(), `"/data"`, `"` + home + `"`, "/var/lib/drydock", home, "0.0.0.0:", r.Addrs[name] + ":"}
	for _, node := range r.Names() {
		if at := r.Detours[name+">"+node]; at != "" {
			pairs = append(pairs, node+":6222", at)
		}
		if IsNATS(node) {
			pairs = append(pairs, node+":", r.Addrs[node]+":")
		}
	}
	if IsNATS(name) && len(r.Detours) > 0 {
		pairs = append([]string{`"0.0.0.0:6222"`, `"` + r.Addrs[name] + `:6222", advertise: "` + r.Addrs[name] + `:1"`}, pairs...) // nobody is there
	}
	return strings.NewReplacer(pairs...).Replace(string(text)), nil
}

// BusKeys are the lines of the configuration that have a drydock find the bus, its password in clear.
func (r *Rig) BusKeys() (string, error) {
	text, err := r.Text("cli")
	if err != nil {
		return "", err
	}
	var keys strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "nats-") {
			keys.WriteString(strings.ReplaceAll(line, "env:NATS_PASSWORD", r.Secrets["NATS_PASSWORD"]))
		}
	}
	return keys.String(), nil
}

// Command runs a service as compose would, a drydock with the given configuration, a server of the bus with its own. It dies with the thread that
// starts it. env comes last and so wins.
func (r *Rig) Command(name, config string, env ...string) (*exec.Cmd, error) {
	c := r.Services[name]
	args, program := slices.Clone(c.Command), r.Drydock
	if IsNATS(name) {
		text, err := r.Text(name)
		if err != nil {
			return nil, err
		}
		config = filepath.Join(r.Dir, name+".conf")
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			return nil, err
		}
		i := slices.Index(args, "/etc/nats/nats.conf")
		if i < 0 {
			return nil, errors.New("compose.yaml does not start nats-server with its configuration")
		}
		args[i], program = config, r.NATS
		args = append(args, "-m", fmt.Sprint(Monitor))
	} else {
		args = append(args, "--config", config)
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "DRYDOCK_BIND_ADDRESS="+r.Addrs[name])
	for k, v := range c.Environment {
		switch {
		case strings.HasPrefix(v, "$"):
			v = r.Secrets[k]
		case k == "DRYDOCK_MONITORING_ADDRESS":
			v = r.Addrs[v]
		}
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.Env = append(cmd.Env, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}
