package binlog

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"drydock/job"
	"drydock/receiver"
	"drydock/store"
)

// tendEvery is how often the segments of this receiver are looked at, and the needless ones deleted.
const tendEvery = 10 * time.Minute

// tend looks after what is archived, until ctx ends: a segment that is no longer there is said to be lost, and one that no base needs
// is deleted.
func (s *Service) tend(ctx context.Context) {
	for ctx.Err() == nil {
		for _, cl := range s.cfg.Clusters {
			if err := s.inspect(ctx, cl.Name); err != nil && ctx.Err() == nil {
				s.cfg.Log.Warn("look at the segments of the binary log", "cluster", cl.Name, "err", err)
			}
			if err := s.prune(ctx, cl.Name); err != nil && ctx.Err() == nil {
				s.cfg.Log.Warn("delete segments of the binary log", "cluster", cl.Name, "err", err)
			}
		}
		pause(ctx, tendEvery)
	}
}

// inspect compares what the catalogue says of this receiver's segments with the files.
func (s *Service) inspect(ctx context.Context, cluster string) error {
	list, err := s.binlogs.List(ctx, cluster)
	if err != nil {
		return err
	}
	for _, seg := range list {
		if seg.Receiver != s.cfg.Name || seg.Open {
			continue
		}
		lost := wrongSize(seg)
		if lost == seg.Lost {
			continue
		}
		if lost != "" {
			s.cfg.Log.Error("a segment of the binary log is lost", "cluster", cluster, "path", seg.Path, "reason", lost)
		}
		seg.Lost = lost
		if err := s.binlogs.Put(ctx, seg); err != nil {
			return err
		}
	}
	return nil
}

// rebuildTime is how long after the catalogue was made anew no older segment is deleted: it does not know the backups of the
// lost one until each receiver has run drydock backups rebuild.
const rebuildTime = 7 * 24 * time.Hour

// prune deletes what no backup needs, be it in the catalogue or only in the folder of this receiver.
func (s *Service) prune(ctx context.Context, cluster string) error {
	made, err := s.catalog.Made(ctx)
	if err != nil {
		return err
	}
	o := Owner{Receiver: s.cfg.Name, Dir: s.cfg.Dir}
	if time.Since(made) < rebuildTime {
		o.Spare = made
	}
	listed, err := s.catalog.All(ctx, cluster, job.Server{})
	if err != nil {
		return err
	}
	manifests := slices.DeleteFunc(listed, isGone)
	onDisk, err := manifestsBelow(filepath.Join(s.cfg.Dir, cluster))
	if err != nil {
		return err
	}
	gone, err := Prune(ctx, s.binlogs, o, cluster, BasesOf(append(manifests, onDisk...)))
	if len(gone) > 0 {
		s.cfg.Log.Info("deleted segments of the binary log that no backup needs", "cluster", cluster, "segments", len(gone))
	}
	return err
}

// isGone says whether nothing of a backup is left. One that is about to go may stay after all, and what is in an archive can be
// fetched from there.
func isGone(m store.Manifest) bool {
	_, copied := m.Archived()
	return m.Removal != nil && !m.Removal.Done.IsZero() && !copied
}

// manifestsBelow reads the manifests of the backups in the folders of a cluster's servers, whoever signed them: they only keep.
func manifestsBelow(dir string) (out []store.Manifest, err error) {
	servers, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for backups: %w", err)
	}
	for _, s := range servers {
		if !s.IsDir() {
			continue
		}
		files, err := os.ReadDir(filepath.Join(dir, s.Name()))
		if err != nil {
			return nil, fmt.Errorf("look for backups: %w", err)
		}
		for _, f := range files {
			of, ok := strings.CutSuffix(filepath.Join(dir, s.Name(), f.Name()), receiver.ManifestSuffix)
			if !ok || !f.Type().IsRegular() || strings.HasPrefix(f.Name(), ".") {
				continue
			}
			if _, err := os.Lstat(of); errors.Is(err, fs.ErrNotExist) {
				continue
			}
			text, err := os.ReadFile(of + receiver.ManifestSuffix)
			if errors.Is(err, fs.ErrNotExist) {
				continue // deleted meanwhile
			}
			var m store.Manifest
			if err == nil {
				err = json.Unmarshal(text, &m)
			}
			if err != nil {
				return nil, fmt.Errorf("read the manifest of %s to see which binary logs it needs: %w", of, err)
			}
			out = append(out, m)
		}
	}
	return out, nil
}

// BasesOf are the backups that a replay can begin on.
func BasesOf(manifests []store.Manifest) (out []Base) {
	for _, m := range manifests {
		if b, err := BaseOf(m); err == nil {
			out = append(out, b)
		}
	}
	return out
}

// prefixHash is the hash of the first n bytes of r.
func prefixHash(r io.Reader, n int64) (string, error) {
	h, err := newHash()
	if err != nil {
		return "", err
	}
	if _, err := io.CopyN(h, r, n); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
