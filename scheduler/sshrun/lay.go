package sshrun

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"drydock/job"
	"drydock/scripts"
)

// layAll puts the built-in script where replication-manager puts its own (maintenance.txt section 6.1.4.2), for people
// and tools that fetch it from there. Nothing of drydock reads it.
func (r *Runner) layAll() {
	set := r.setup.Load()
	for _, s := range set.schedules {
		var errs []error
		for _, server := range s.cluster.Servers {
			if err := lay(set.DataDir, s.cluster.Name, server); err != nil {
				errs = append(errs, err)
			}
		}
		if len(errs) > 0 {
			r.log.Warn("lay the script in the servers' data folders", "cluster", s.cluster.Name, "failed", len(errs), "err", errs[0])
		}
	}
}

// LaidScript is the path of the built-in script in a server's data folder.
func LaidScript(dataDir, cluster string, s job.Server) string {
	return filepath.Join(dataDir, cluster, fmt.Sprintf("%s_%d", s.Host, s.Port), "init", "init", "dbjobs_new")
}

// lay writes the script unless it is there already. It is not synced: a lost one is written again.
func lay(dataDir, cluster string, s job.Server) (err error) {
	path, script := LaidScript(dataDir, cluster, s), scripts.Script()
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, script) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("create the folder of the script: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".dbjobs_new-*")
	if err != nil {
		return fmt.Errorf("write the script: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(script)
	if err = errors.Join(err, f.Chmod(0o755), f.Close()); err != nil {
		return fmt.Errorf("write the script: %w", err)
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("put the script in its place: %w", err)
	}
	return nil
}
