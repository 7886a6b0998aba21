package recovery

import (
	"slices"
	"strings"
	"testing"
)

// Of a drydock in a container the passwords stand in its environment, which every tool would hand on to what it starts.
func TestToolsGetNoneOfDrydocksOwnVariables(t *testing.T) {
	for _, name := range []string{"DB_PASSWORD", "NATS_PASSWORD", "MYSQL_HOST", "HOME"} {
		t.Setenv(name, "of drydock")
	}
	t.Setenv("TZ", "UTC")
	env := New(Config{Folder: "/private"}, Backup{}).command("mbstream").Env
	if text := strings.Join(env, "\n"); strings.Contains(text, "of drydock") || !slices.Contains(env, "HOME=/private") || !slices.Contains(env, "TZ=UTC") {
		t.Errorf("mbstream gets %v", env)
	}
}
