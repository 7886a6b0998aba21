package proving

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"

	"drydock/job"
	"drydock/receiver/drill"
	"drydock/receiver/recovery"
	"drydock/store"
)

// Options are how a drill works.
type Options struct {
	Scratch    string         // folder that the scratch server lies below
	Memory     int64          // bytes for preparing and for the scratch server
	Identities []age.Identity // open encrypted backups
	By         string         // who asks for it
	// Compare has the restored tables compared with what the server held; without it a backup may leave tables out.
	Compare    bool
	Step, Line func(string) // see [drill.Config]
}

// Drill restores the backup m, whose file is at path, into a scratch server and looks through it. What it found is no error,
// unless the drill itself could not be done. It needs neither bus nor database.
func Drill(ctx context.Context, m store.Manifest, path string, o Options) (store.Drill, error) {
	b, err := recovery.BackupOf(m, path)
	if err != nil {
		return store.Drill{}, err
	}
	scratch, err := drill.OpenScratch(o.Scratch)
	if err != nil {
		return store.Drill{}, err
	}
	var expect *job.Inventory
	if o.Compare {
		expect = m.Inventory
	}
	res, err := drill.Run(ctx, drill.Config{
		Folder: scratch.Folder(), Memory: o.Memory,
		Identities: o.Identities, Expect: expect, Step: o.Step, Line: o.Line,
	}, b)
	blamed := errors.Is(err, drill.ErrBackup)
	if e := scratch.Close(); e != nil {
		err = errors.Join(err, fmt.Errorf("remove the scratch folder: %w", e))
	}
	d := store.Drill{
		Time: time.Now().UTC(), By: o.By, Restore: res.Restore.Seconds(), Check: res.Check.Seconds(),
		Version: res.Version, Tables: res.Tables, Rows: res.Rows, Skipped: store.SkippedOf(res.Skipped), Compared: res.Compared,
	}
	if blamed {
		d.Problem, err = err.Error(), nil
	}
	return d, err
}

const manifestSuffix = ".manifest.json"

// Signed is the backup of the catalogue as the manifest beside its file has it, if one of the keys vouches for that, and
// where the file is, also with an error.
func Signed(m store.Manifest, trusted []store.PublicKey) (good store.Manifest, path string, err error) {
	if path, err = filepath.Abs(m.Path); err != nil {
		return good, "", err
	}
	raw, err := os.ReadFile(path + manifestSuffix)
	if err != nil {
		return good, path, fmt.Errorf("read the manifest: %w", err)
	}
	err = errors.New("no public key is known")
	for _, key := range trusted {
		if good, err = store.VerifyManifest(raw, key); err == nil || !errors.Is(err, store.ErrOtherKey) {
			break
		}
	}
	if err != nil {
		return good, path, fmt.Errorf("verify %s: %w", path+manifestSuffix, err)
	}
	if good.ID != m.ID {
		return good, path, fmt.Errorf("%s is the manifest of backup %s", path+manifestSuffix, good.ID)
	}
	if _, err := os.Stat(path); err != nil {
		return good, path, fmt.Errorf("look for the backup: %w", err)
	}
	return good, path, nil
}
