package recovery

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"drydock/job"
)

// A backup of a private server lacks what the server has no plugin for, and nothing of it would tell.
func TestWhatAPrivateServerPassesOverIsNotBackedUpAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file, text string
		backup     Backup
		want       error
	}{
		"tables of InnoDB":      {"ibdata1", "", Backup{Format: job.XBStream}, nil},
		"tables of MyRocks":     {"#rocksdb/CURRENT", "", Backup{Format: job.XBStream}, ErrAgain},
		"encrypted tables":      {"backup-my.cnf", "[mysqld]\nplugin_load=file_key_management.so\n", Backup{Format: job.XBStream}, ErrKeys},
		"a dump":                {"ibdata1", "", Backup{Format: job.SQLText}, ErrAgain},
		"a backup of MySQL":     {"ibdata1", "", Backup{Format: job.XBStream, XtraTool: true}, ErrAgain},
		"options and no plugin": {"backup-my.cnf", "[mysqld]\ninnodb_page_size=16384\n", Backup{Format: job.XBStream}, nil},
	} {
		copied := New(Config{Folder: t.TempDir()}, c.backup)
		path := filepath.Join(copied.Data(), c.file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(c.text), 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := copied.Repeatable().Do(t.Context()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
