package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecretIsNeverPrinted(t *testing.T) {
	t.Parallel()
	cfg := mustParse(t, "[Default]\nnats-password = \"hunter2\"\napi-credentials = \"a:hunter2\"\n"+
		"[prod]\ndb-servers-hosts = \"h\"\ndb-servers-credential = \"u:hunter2\"\n")
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		l := slog.New(h)
		l.Info("x", "cfg", cfg, "user", cfg.Global.Users[0], "clusters", cfg.Clusters, "secret", cfg.Global.NATS.Password)
	}
	js, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	out := log.String() + string(js)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		out += fmt.Sprintf(verb, cfg) + fmt.Sprintf(verb, *cfg) + fmt.Sprintf(verb, cfg.Global.NATS.Password) + fmt.Sprintf(verb, cfg.Clusters)
	}
	for _, leak := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), fmt.Sprintf("%X", "hunter2")} {
		if strings.Contains(out, leak) {
			t.Errorf("%q leaked", leak)
		}
	}
	if !strings.Contains(out, "[secret]") || cfg.Global.NATS.Password.Reveal() != "hunter2" {
		t.Error("the secret is lost instead of hidden")
	}
}

func TestSecretsComeFromEnvironmentAndFiles(t *testing.T) {
	t.Parallel()
	dir := write(t, map[string]string{
		"db": "p w:$\\%\"'\u00e9\r\n", "twolines": "a\n\n", "whole": "root:env:literal\n", "users": "a:1,b:2", "empty": "\n",
	})
	file := func(name string) string { return "file:" + filepath.Join(dir, name) }
	for _, c := range []struct{ credential, user, want string }{
		{"root:env:PW", "root", "s:e,c"},
		{"root:" + file("db"), "root", "p w:$\\%\"'\u00e9"},
		{"root:" + file("twolines"), "root", "a\n"},
		{file("whole"), "root", "env:literal"},
		{"env:WHOLE", "u", "file:literal"},
	} {
		cfg := mustParse(t, "[prod]\ndb-servers-hosts = \"h\"\ndb-servers-credential = \""+c.credential+"\"\n", "PW=s:e,c", "WHOLE=u:file:literal")
		if got := cfg.Clusters[0]; got.User != c.user || got.Password.Reveal() != c.want {
			t.Errorf("%s: got %s and %q", c.credential, got.User, got.Password.Reveal())
		}
	}
	cfg := mustParse(t, "[Default]\napi-credentials = \""+file("users")+"\"\n"+good)
	if len(cfg.Global.Users) != 2 || cfg.Global.Users[1].Password.Reveal() != "2" {
		t.Errorf("users from a file: %+v", cfg.Global.Users)
	}
	cfg = mustParse(t, "[Default]\napi-credentials = \"a:env:PW\"\n"+good, "PW=x,y:z")
	if len(cfg.Global.Users) != 1 || cfg.Global.Users[0].Password.Reveal() != "x,y:z" {
		t.Errorf("a password with a comma was cut: %d users", len(cfg.Global.Users))
	}

	for _, c := range []struct{ text, want string }{
		{"[Default]\nnats-password = \"env:NONE\"\n", `x.toml:2: key "nats-password": environment variable "NONE" is not set`},
		{"[Default]\nnats-password = \"" + file("none") + "\"\n", `x.toml:2: key "nats-password": secret file cannot be read`},
		{"[Default]\nnats-password = \"" + file("") + "\"\n", "secret file cannot be read"},
		{"[Default]\nnats-password = \"" + file("empty") + "\"\n", "is empty; write the password into it"},
		{"[Default]\nnats-password = \"file:/dev/zero\"\n", "is not a regular file"},
	} {
		if _, err := parse(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v", c.text, err)
		}
	}
}

func TestPasswordsThatEverybodyMayReadAreWarnedOf(t *testing.T) {
	t.Parallel()
	dir := write(t, map[string]string{
		"main.toml": "[Default]\nnats-password = \"clear\"\napi-credentials = \"a:file:pw\"\napi-credentials-acl-allow = \"a:db\"\n",
		"pw":        "x",
	})
	main := filepath.Join(dir, "main.toml")
	remarks := func() string {
		t.Helper()
		cfg, err := Load(main)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(cfg.Warnings)
	}
	if got := remarks(); strings.Contains(got, "password") || strings.Contains(got, "secret file") {
		t.Errorf("private files: %s", got)
	}
	for _, name := range []string{"main.toml", "pw"} {
		if err := os.Chmod(filepath.Join(dir, name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got := remarks()
	if !strings.Contains(got, main+`:2: key "nats-password": holds a password in clear`) || !strings.Contains(got, "pw may be read by everybody") {
		t.Errorf("open files: %s", got)
	}
	if strings.Count(got, "holds a password in clear") != 1 {
		t.Errorf("a reference was taken for a password: %s", got)
	}
}
