package recovery

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
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

// A server that starts deletes the temporary tables in its temporary folder, whosever they are: the one that installs an empty data
// folder would spoil a drill beside it, or the work of a server that serves.
func TestAnInstallationLeavesWhatOthersHaveAlone(t *testing.T) {
	shared := t.TempDir()
	t.Setenv("TMPDIR", shared)
	var others []string
	for _, ext := range []string{"frm", "MAI", "MAD"} {
		others = append(others, filepath.Join(shared, "#sql-temptable-1f-1-1."+ext))
		if err := os.WriteFile(others[len(others)-1], nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := New(Config{Folder: t.TempDir(), Line: func(string) {}}, Backup{})
	if err := os.Mkdir(c.tmp(), 0o700); err != nil {
		t.Fatal(err)
	}
	before := touched("/usr/lib/mysql/plugin/auth_pam_tool_dir")
	if err := c.install(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := touched("/usr/lib/mysql/plugin/auth_pam_tool_dir"); after != before {
		t.Error("the folder of the PAM plugin got another owner, so that nobody can log in to this machine's server by PAM")
	}
	for _, name := range others {
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}
}

// touched is when owner or mode of a file was set last; zero where there is none.
func touched(path string) syscall.Timespec {
	var s syscall.Stat_t
	if syscall.Stat(path, &s) != nil {
		return syscall.Timespec{}
	}
	return s.Ctim
}

// mariadb-install-db ends with eleven lines of advice: the last five say nothing about what went wrong.
func TestAFailedInstallationSaysWhatWentWrong(t *testing.T) {
	t.Parallel()
	c := New(Config{Folder: t.TempDir(), Line: func(string) {}}, Backup{})
	if err := os.WriteFile(c.Data(), nil, 0o600); err != nil { // where the folder should be
		t.Fatal(err)
	}
	if err := c.install(t.Context()); err == nil || !strings.Contains(err.Error(), "Fatal error Can't create database directory") {
		t.Errorf("it failed with %v", err)
	}
}
