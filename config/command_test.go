package config

import (
	"os"
	"path/filepath"
	"testing"
)

func TestACommandNeedsNoDatabasePassword(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "drydock.toml")
	text := `[Default]
api-credentials = "admin:env:DRYDOCK_TEST_UNSET"
api-credentials-acl-allow = "admin:cluster db"
[prod]
db-servers-hosts = "db1"
db-servers-credential = "env:DRYDOCK_TEST_UNSET"
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil {
		t.Error("a server would start without its passwords")
	}
	cfg, err := LoadForCommand(path)
	if err != nil || len(cfg.Clusters) != 1 {
		t.Errorf("a command that needs none of them is refused: %v", err)
	}
	if err := os.WriteFile(path, []byte("[Default]\nnats-password = \"env:DRYDOCK_TEST_UNSET\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadForCommand(path); err == nil {
		t.Error("the one password that a command needs is left unread")
	}
}
