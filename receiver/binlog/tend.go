package binlog

import (
	"context"
	"encoding/hex"
	"io"
	"time"

	"drydock/job"
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

// prune deletes what no backup in the catalogue needs.
func (s *Service) prune(ctx context.Context, cluster string) error {
	manifests, err := s.catalog.List(ctx, cluster, job.Server{})
	if err != nil {
		return err
	}
	gone, err := Prune(ctx, s.binlogs, s.cfg.Name, cluster, BasesOf(manifests))
	if len(gone) > 0 {
		s.cfg.Log.Info("deleted segments of the binary log that no backup needs", "cluster", cluster, "segments", len(gone))
	}
	return err
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
