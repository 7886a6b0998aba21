package app

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"

	"drydock/config"
	"drydock/receiver/proving"
	"drydock/store"
)

// DrillOptions are how a drill works.
type DrillOptions = proving.Options

// ScratchFolder is where the drills of a cluster work, backup-drill-scratch or a folder of the data folder. A cluster that
// is not in the configuration has the latter.
func ScratchFolder(cfg *config.Config, cluster string) string {
	if c, ok := cfg.Cluster(cluster); ok && c.Drill.Scratch != "" {
		return c.Drill.Scratch
	}
	return filepath.Join(cfg.Global.Datadir, "drills")
}

// DrillMemory is backup-drill-memory of a cluster, in bytes; the default for one that is not in the configuration.
func DrillMemory(cfg *config.Config, cluster string) int64 {
	if c, ok := cfg.Cluster(cluster); ok {
		return c.Drill.Memory
	}
	return config.DrillMemory
}

// DrillCompares is backup-drill-compare of a cluster.
func DrillCompares(cfg *config.Config, cluster string) bool {
	c, ok := cfg.Cluster(cluster)
	return !ok || c.Drill.Compare
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
	d, err := proving.Drill(ctx, found.Manifest, found.File, o)
	if said := d.Skipped.String(); said != "" {
		o.Step(said)
	}
	return d, err
}

// drillSettings are those that a restart puts in force.
func drillSettings(c config.Cluster) []any {
	return []any{c.Drill.Scratch, c.Drill.Memory, c.Drill.Compare}
}

func provingConfig(cfg *config.Config, name string, log *slog.Logger) (proving.Config, error) {
	out := proving.Config{Name: name, Log: log.With("component", "drill")}
	var err error
	// The key of now is in the file already.
	if out.Trusted, err = Keys(cfg, "", func(problem string) { out.Log.Warn("pass over a public key", "problem", problem) }); err != nil {
		return out, err
	}
	for _, c := range cfg.Clusters {
		identities, err := identitiesOf(c)
		if err != nil {
			return out, err
		}
		out.Clusters = append(out.Clusters, proving.Cluster{
			Name: c.Name, Scratch: ScratchFolder(cfg, c.Name), Memory: c.Drill.Memory, Identities: identities, Compare: c.Drill.Compare,
		})
	}
	return out, nil
}
