package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"filippo.io/age"

	"drydock/config"
	"drydock/receiver/drill"
	"drydock/store"
)

// DrillOptions are how a drill works.
type DrillOptions struct {
	Scratch    string         // folder that the scratch server lies below
	Memory     int64          // bytes for preparing and for the scratch server
	Identities []age.Identity // open encrypted backups
	By         string         // who asks for it
	Step, Line func(string)   // see [drill.Config]
}

// ScratchFolder is where the drills of a configuration work.
func ScratchFolder(cfg *config.Config) string { return filepath.Join(cfg.Global.Datadir, "drills") }

// Identities are the private keys for the backups of a cluster, as the configuration names them.
func Identities(cfg *config.Config, cluster string) ([]age.Identity, error) {
	c, ok := cfg.Cluster(cluster)
	if !ok {
		return nil, nil
	}
	return identitiesOf(c)
}

// FindBackup is the backup of this id in the backup folder. Its manifest is signed by one of the keys, and of that file.
func FindBackup(folder, id string, keys []store.PublicKey) (found Found, err error) {
	err = eachManifest(folder, keys, func(f Found) error {
		if f.Manifest.ID != id {
			return nil
		}
		if f.Problem != "" {
			return fmt.Errorf("find backup %s: %s: %s", id, f.File, f.Problem)
		}
		found = f
		return fs.SkipAll
	})
	if err == nil && found.File == "" {
		err = noBackup(folder, id)
	}
	return found, err
}

// RunDrill restores a backup of this machine into a scratch server and looks through it. What it found is no error, unless
// the drill itself could not be done. It needs neither bus nor database.
func RunDrill(ctx context.Context, found Found, o DrillOptions) (store.Drill, error) {
	b, err := found.backup()
	if err != nil {
		return store.Drill{}, err
	}
	scratch, err := drill.OpenScratch(o.Scratch)
	if err != nil {
		return store.Drill{}, err
	}
	res, err := drill.Run(ctx, drill.Config{
		Folder: scratch.Folder(), Memory: o.Memory,
		Identities: o.Identities, Step: o.Step, Line: o.Line,
	}, b)
	err = errors.Join(err, scratch.Close())
	if n := len(res.Skipped); n > 0 {
		o.Step(fmt.Sprintf("not looked at, for want of their engines: %d tables, %s first", n, res.Skipped[0]))
	}
	d := store.Drill{
		Time: time.Now().UTC(), By: o.By, Restore: res.Restore.Seconds(), Check: res.Check.Seconds(),
		Version: res.Version, Tables: res.Tables, Rows: res.Rows,
	}
	if errors.Is(err, drill.ErrBackup) {
		d.Problem, err = err.Error(), nil
	}
	return d, err
}
