package recovery

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"drydock/internal/bustest"
	"drydock/job"
)

// A tool of another series may prepare a backup and spoil it.
func TestOnlyToolsOfTheSameSeriesReadABackup(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		here, of string
		reads    bool
		note     bool
	}{
		{"10.11.14-MariaDB", "mariadb-backup 10.11.2-MariaDB", true, false},
		{"10.11.2", "10.11.14-MariaDB-0+deb12u1", true, true},
		{"10.11.2", "10.6.19", false, false}, {"11.4.1", "10.11.2", false, false}, {"8.0.35-30", "8.4.0-1", false, false},
	} {
		here, ok := FindVersion(c.here)
		of, ok2 := FindVersion(c.of)
		note, err := here.Reads(of)
		if !ok || !ok2 || (err == nil) != c.reads || err != nil && !errors.Is(err, ErrVersion) || (note != "") != c.note {
			t.Errorf("%s for %s: %q, %v", c.here, c.of, note, err)
		}
	}
	for _, text := range []string{"", "mydumper", "10.11", "v1"} {
		if v, ok := FindVersion(text); ok {
			t.Errorf("%q is %s", text, v)
		}
	}
}

// The manifest may not say the version: then the files do, and nothing is prepared before.
func TestTheFilesTellTheirVersionBeforeTheyArePrepared(t *testing.T) {
	t.Parallel()
	var said []string
	c := New(Config{Folder: t.TempDir(), Step: func(string) {}, Line: func(s string) { said = append(said, s) }}, Backup{Format: job.XBStream})
	if err := os.Mkdir(c.Data(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.compare(bustest.Context(t)); err != nil || len(said) != 1 {
		t.Errorf("of unknown version: %q, %v", said, err)
	}
	info := "uuid = 1\ntool_version = 10.11.2-MariaDB\nserver_version = 10.5.4-MariaDB-log\n"
	if err := os.WriteFile(filepath.Join(c.Data(), "xtrabackup_info"), []byte(info), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.compare(bustest.Context(t)); !errors.Is(err, ErrVersion) || errors.Is(err, ErrBackup) || !strings.Contains(err.Error(), "install 10.5") {
		t.Errorf("of another series: %v", err)
	}
}
