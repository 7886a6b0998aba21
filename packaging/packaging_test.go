// Package packaging holds what drydock is delivered with; its tests read compose.yaml, Dockerfile and the configurations
// in it. No container runtime is needed for that, and none was tried (docs/testing.md).
package packaging

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"drydock/config"
)

// composeFile is the part of a compose file that refers to other things.
type composeFile struct {
	Services map[string]struct {
		Image string
		Build struct{ Context, Target string }
		// Extends and the like would need more than these checks; strict decoding of the keys below refuses them.
		Restart     string
		StopGrace   string `yaml:"stop_grace_period"`
		Init        bool
		ReadOnly    bool `yaml:"read_only"`
		Tmpfs       []string
		CapDrop     []string `yaml:"cap_drop"`
		Security    []string `yaml:"security_opt"`
		Profiles    []string
		DependsOn   []string `yaml:"depends_on"`
		Command     []string
		Environment map[string]string
		Healthcheck map[string]any
		Hostname    string
		Ports       []string
		Volumes     []string
	}
	Volumes map[string]any
}

func compose(t *testing.T) composeFile {
	t.Helper()
	text, err := os.ReadFile("../compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var top map[string]any
	if err := yaml.Unmarshal(text, &top); err != nil {
		t.Fatal(err)
	}
	for key := range top {
		if !slices.Contains([]string{"name", "services", "volumes"}, key) && !strings.HasPrefix(key, "x-") {
			t.Errorf("compose knows no %q at the top", key)
		}
	}
	services, err := yaml.Marshal(map[string]any{"services": top["services"], "volumes": top["volumes"]})
	if err != nil {
		t.Fatal(err)
	}
	var c composeFile
	if err := yaml.UnmarshalWithOptions(services, &c, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	return c
}

// A compose file with a dangling name is refused as a whole, or worse, makes an empty folder where a file was meant.
func TestEveryReferenceInComposeLeadsSomewhere(t *testing.T) {
	t.Parallel()
	c := compose(t)
	dockerfile, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	ports := map[string]string{}
	for name, s := range c.Services {
		for _, d := range s.DependsOn {
			if other, ok := c.Services[d]; !ok || len(s.Profiles) == 0 && len(other.Profiles) > 0 {
				t.Errorf("%s depends on %s, which is not there with it", name, d)
			}
		}
		if s.Build.Target != "" && !strings.Contains(string(dockerfile), " AS "+s.Build.Target+"\n") {
			t.Errorf("%s is built from the target %s, which the Dockerfile lacks", name, s.Build.Target)
		}
		for _, v := range s.Volumes {
			from, _, _ := strings.Cut(v, ":")
			if strings.HasPrefix(from, "./packaging/split/tls/") {
				continue // packaging/prepare makes them
			}
			if strings.HasPrefix(from, ".") {
				if _, err := os.Stat(filepath.Join("..", from)); err != nil {
					t.Errorf("%s mounts %v", name, err)
				}
			} else if _, ok := c.Volumes[from]; !ok {
				t.Errorf("%s uses the volume %s, which is not declared", name, from)
			}
		}
		for _, p := range s.Ports {
			outside, _, _ := strings.Cut(p, ":")
			if other, taken := ports[outside]; taken {
				t.Errorf("%s and %s both publish %s", name, other, outside)
			}
			ports[outside] = name
		}
	}
	counts := map[string]int{}
	for name, s := range c.Services {
		if slices.Contains(s.Profiles, "split") {
			counts[strings.TrimRight(name, "-0123456789")]++
		}
	}
	for role, want := range map[string]int{"nats": 3, "scheduler": 2, "gateway": 2, "receiver": 2, "alert": 1} {
		if counts[role] != want {
			t.Errorf("the profile split has %d of %s, want %d", counts[role], role, want)
		}
	}
}

// A configuration that drydock refuses would only show in a container that restarts for ever.
func TestEveryDeliveredConfigurationLoads(t *testing.T) {
	for _, name := range []string{"ADMIN_PASSWORD", "DB_PASSWORD", "NATS_PASSWORD"} {
		t.Setenv(name, "p0123456789abcdef")
	}
	for _, file := range []string{"drydock.toml", "compose/single.toml", "split/drydock.toml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for what, text := range map[string]string{file: string(text), file + " without its comment signs": uncommented.ReplaceAllString(string(text), "$1")} {
			cfg, err := config.Parse(file, []byte(text))
			if err != nil {
				t.Errorf("%s: %v", what, err)
				continue
			}
			if len(cfg.Ignored) > 0 {
				t.Errorf("%s: passed over: %v", what, cfg.Ignored)
			}
		}
	}
}

// uncommented finds settings that are commented out: a # without a blank behind it.
var uncommented = regexp.MustCompile(`(?m)^#([a-z\[])`)

// The Dockerfile cannot be built here; that what it copies exists can be seen.
func TestDockerfileCopiesWhatIsThere(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	known := regexp.MustCompile(`^(FROM|WORKDIR|COPY|RUN|ARG|ENV|USER|VOLUME|EXPOSE|HEALTHCHECK|ENTRYPOINT|CMD) `)
	for line := range strings.SplitSeq(strings.ReplaceAll(string(text), "\\\n", " "), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if !known.MatchString(line) {
			t.Errorf("no instruction: %s", line)
		}
		words := strings.Fields(line)
		if words[0] != "COPY" || slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, "--from=") }) {
			continue
		}
		for _, w := range words[1 : len(words)-1] {
			if strings.HasPrefix(w, "--") {
				continue
			}
			if _, err := os.Stat(filepath.Join("..", w)); err != nil {
				t.Errorf("COPY %s: %v", w, err)
			}
		}
	}
}

// A gateway that stands still takes connections and answers nothing; the script would wait for it in every call of every cycle.
// One that has no bus says so. Neither may keep the script from the one that works, and without any it runs all the same.
func TestLoopPassesOverGatewaysThatDoNotAnswer(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	answering := func(code int) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/readyz" {
				w.WriteHeader(code)
			}
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	still, unready, well := "http://"+silent.Addr().String(), answering(http.StatusServiceUnavailable), answering(http.StatusOK)
	for _, c := range []struct{ urls, want string }{
		{still + " " + unready + " " + well, well},
		{well + " " + still, well},
		{unready + " " + unready, unready},
	} {
		dir := t.TempDir()
		script := "#!/bin/sh\necho $REPLICATION_MANAGER_URL >>" + dir + "/asked\n"
		if err := os.WriteFile(dir+"/dbjobs", []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("compose/dbjobs-loop")
		cmd.Env = append(os.Environ(), "DRYDOCK_URLS="+c.urls, "DBJOBS="+dir+"/dbjobs", "DRYDOCK_EVERY=no time") // at which the loop ends
		_ = cmd.Run()
		asked, err := os.ReadFile(dir + "/asked")
		if got := strings.TrimSpace(string(asked)); err != nil || got != c.want {
			t.Errorf("of %s the script was run with %q, %v", c.urls, got, err)
		}
	}
}
