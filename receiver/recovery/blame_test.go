package recovery

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"drydock/internal/bustest"
	"drydock/job"
)

// A tool that crashes has met something in the backup; one that was killed has not.
func TestOnlyASignalFromOutsideSparesTheBackup(t *testing.T) {
	t.Parallel()
	c := New(Config{Folder: t.TempDir(), Line: func(string) {}}, Backup{})
	for signal, spared := range map[string]bool{
		"KILL": true, "TERM": true, "INT": true, "HUP": true, "QUIT": true,
		"ABRT": false, "SEGV": false, "BUS": false, "ILL": false, "FPE": false,
	} {
		err := blame(c.tool(bustest.Context(t), nil, "", "sh", "-c", "ulimit -c 0; kill -"+signal+" $$"))
		if err == nil || errors.Is(err, ErrBackup) == spared {
			t.Errorf("%s: %v", signal, err)
		}
	}
}

// A disk that was full must not cost a backup its good name.
func TestWantOfSpaceIsReadFromWhatWasSaid(t *testing.T) {
	t.Parallel()
	for _, said := range []string{
		"ERROR 1114 (HY000) at line 7: The table 'a' is full", "mbstream: Can't write (No space left on device)", "write failed (Errcode: 28)",
		`Got error 28 "No space" from storage engine`, "InnoDB: Error number 28 means", "[ERROR] mariadbd: Disk is full writing './a'",
	} {
		err := SpaceIn(said, blame(errors.New("exit status 1")))
		if !errors.Is(err, ErrSpace) || errors.Is(err, ErrBackup) {
			t.Errorf("%s: %v", said, err)
		}
	}
	for _, said := range []string{"ERROR 1045 (28000): Access denied", "ERROR 1064 near 'the pool is full'", "error 280", "page is corrupt"} {
		if err := SpaceIn(said, blame(errors.New("exit status 1"))); !errors.Is(err, ErrBackup) {
			t.Errorf("%s: %v", said, err)
		}
	}
	if Needs(job.SQLText, 1<<40) < 2<<40 || Needs(job.Tar, 1<<40) < 3<<40 {
		t.Error("a dump needs more than its size")
	}
}

// Every backup of a server that encrypts its files would be called bad where its keys are not.
func TestWantOfTheOriginsKeysBlamesNoBackup(t *testing.T) {
	t.Parallel()
	for options, spared := range map[string]bool{
		"[mysqld]\ninnodb_page_size=16384\nplugin_load=file_key_management=file_key_management\n": true,
		"[mysqld]\ninnodb_page_size=16384\n":                                                      false,
	} {
		c := New(Config{Folder: t.TempDir(), Memory: 64 << 20, Line: func(string) {}}, Backup{})
		if err := errors.Join(c.Open(0), os.Mkdir(c.Data(), 0o700), os.WriteFile(filepath.Join(c.Data(), "backup-my.cnf"), []byte(options), 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := c.prepare(bustest.Context(t)); err == nil || errors.Is(err, ErrKeys) != spared || errors.Is(err, ErrBackup) == spared {
			t.Errorf("%s: %v", options, err)
		}
	}
}

func TestANoteOfASocketIsNotTrustedWithATree(t *testing.T) {
	t.Parallel()
	dir, foreign := filepath.Join(t.TempDir(), socketPrefix+"x"), filepath.Join(t.TempDir(), "foreign")
	kept := filepath.Join(dir, "kept")
	if err := errors.Join(os.MkdirAll(kept, 0o700), os.Mkdir(foreign, 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, noted := range []string{dir, foreign} {
		work := t.TempDir()
		if err := os.WriteFile(filepath.Join(work, socketNote), []byte(noted), 0o600); err != nil {
			t.Fatal(err)
		}
		_ = RemoveSocket(work)
	}
	for _, dir := range []string{kept, foreign} {
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
}
