package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"filippo.io/age"

	"drydock/config"
	"drydock/job"
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
	if err := clearDrills(o.Scratch); err != nil {
		return store.Drill{}, err
	}
	m := found.Manifest
	task, err := job.TaskByName(m.Task)
	if err != nil {
		return store.Drill{}, fmt.Errorf("drill %s: %w %q", m.ID, err, m.Task)
	}
	res, err := drill.Run(ctx, drill.Config{
		Folder: filepath.Join(o.Scratch, fmt.Sprintf("%d-%s", os.Getpid(), m.ID)), Memory: o.Memory,
		Identities: o.Identities, Step: o.Step, Line: o.Line,
	}, drill.Backup{
		Path: found.File, Compress: m.Compress, Encrypted: m.Encrypted, Algo: m.Algo, Hash: m.Hash, Size: m.Size,
		Format: task.Format, XtraTool: m.Task == "xtrabackup",
	})
	d := store.Drill{
		Time: time.Now().UTC(), By: o.By, Restore: res.Restore.Seconds(), Check: res.Check.Seconds(),
		Version: res.Version, Tables: res.Tables, Rows: res.Rows,
	}
	if errors.Is(err, drill.ErrBackup) {
		d.Problem, err = err.Error(), nil
	}
	return d, err
}

// clearDrills removes what drills left that were killed. Their processes died with them.
func clearDrills(scratch string) error {
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return fmt.Errorf("make the folder of the drills: %w", err)
	}
	entries, err := os.ReadDir(scratch)
	if err != nil {
		return fmt.Errorf("look for what drills left: %w", err)
	}
	for _, e := range entries {
		owner, _, _ := strings.Cut(e.Name(), "-")
		pid, err := strconv.Atoi(owner)
		if err != nil || !e.IsDir() || errors.Is(syscall.Kill(pid, 0), syscall.EPERM) || syscall.Kill(pid, 0) == nil {
			continue // somebody else's, or a drill that runs
		}
		if err := os.RemoveAll(filepath.Join(scratch, e.Name())); err != nil {
			return fmt.Errorf("remove what a drill left: %w", err)
		}
	}
	return nil
}
