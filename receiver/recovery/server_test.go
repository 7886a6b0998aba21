package recovery

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// On the machine of the origin a path of its options leads to its own files, which a private server would write.
func TestNoOptionOfTheOriginLeadsOutOfTheFolder(t *testing.T) {
	t.Parallel()
	c := New(Config{Folder: t.TempDir()}, Backup{})
	options := "[mysqld]\ninnodb_page_size=16384\ninnodb_data_file_path = /ssd/ibdata1:12M:autoextend\ninnodb_undo_directory=/ssd\naria_log_dir_path=/ssd/aria\nlower-case-table-names=1\n"
	if err := errors.Join(os.MkdirAll(c.Data(), 0o700), os.WriteFile(filepath.Join(c.Data(), "backup-my.cnf"), []byte(options), 0o600)); err != nil {
		t.Fatal(err)
	}
	if got := c.Layout(); !slices.Equal(got, []string{"innodb_page_size=16384", "lower_case_table_names=1"}) {
		t.Errorf("%q", got)
	}
}
