package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"drydock/job"
	"drydock/receiver/binlog"
	"drydock/receiver/recovery"
	"drydock/restore"
	"drydock/store"
)

// Point is a point in time: the first moment that is left out, or the last transaction that is not. The zero Point is that of the
// backup.
type Point struct {
	Time time.Time
	GTID string
}

// Given reports whether a point was asked for.
func (p Point) Given() bool { return p != Point{} }

func (p Point) String() string {
	switch {
	case p.GTID != "":
		return p.GTID
	case p.Time.IsZero():
		return ""
	}
	return p.Time.UTC().Format(time.RFC3339)
}

// Onward reports whether a restore of a backup can be brought to the point: the backup is not beyond it.
func (p Point) Onward(m store.Manifest) bool {
	if p.GTID == "" {
		return p.Time.IsZero() || !m.Ended.After(p.Time)
	}
	want, err := binlog.ParseState(p.GTID)
	if err != nil {
		return false
	}
	has, err := binlog.ParseState(m.GTID)
	if err != nil || len(has) == 0 {
		return false
	}
	for domain, g := range want {
		if has[domain].Seq > g.Seq {
			return false
		}
	}
	return true
}

// replay plans the way to the wanted point; it reads all that is to be replayed. p gets what it found.
func (p *RestorePlan) replay(ctx context.Context, o RestoreOptions, b recovery.Backup) *binlog.Plan {
	const what = "point in time"
	base, err := binlog.BaseOf(o.Found.Manifest)
	switch {
	case err != nil:
		p.add(what, restore.Refused, "%v", err)
		return nil
	case b.XtraTool:
		p.add(what, restore.Refused, "binary logs are replayed on backups of MariaDB only")
		return nil
	case b.Format != job.XBStream && !o.Load:
		p.add(what, restore.Refused, "nothing is replayed on the file of a dump: --load makes data of a server of it")
		return nil
	}
	p.Point = &restore.PointPlan{To: o.To.String(), Base: cmp.Or(base.GTID, fmt.Sprintf("%s:%d", base.File, base.Pos))}
	segments, where, err := archivedSegments(o.Folder, o.Found.Manifest.Cluster, o.Keys)
	if err != nil {
		p.add(what, restore.Refused, "%v", err)
		return nil
	}
	if span, err := binlog.Coverage(segments, base); err == nil {
		cover(p.Point, span)
	}
	replay, err := binlog.Prepare(ctx, binlog.Request{
		Segments: segments, Base: base, Until: binlog.Until{Time: o.To.Time, GTID: o.To.GTID}, Keys: o.Keys, Identities: o.Identities,
		Where: func(s store.Segment) string { return where[s.ID()] },
	})
	if err != nil {
		p.add(what, restore.Refused, "%v", err)
		return nil
	}
	p.Point.Transactions, p.Point.Last, p.Point.GTID = replay.Transactions, replay.Last, replay.GTID
	p.Need += replay.Bytes
	p.add(what, restore.Fine, "%d transactions are replayed, up to %s; every byte of them was read", replay.Transactions, cmp.Or(replay.GTID, "the backup's end"))
	return replay
}

func cover(p *restore.PointPlan, span binlog.Span) {
	p.Reaches, p.Covered, p.Segments = span.To, span.GTID, len(span.Segments)
	for _, s := range span.Segments {
		p.Read += s.Stored
	}
	if span.Gap != nil {
		p.Gap = span.Gap.Reason
	}
}

// archivedSegments are the segments of a cluster's binary logs in the backup folder that one of the keys vouches for, and where they
// are. Others are passed over: whether what is left is enough is asked later.
func archivedSegments(folder, cluster string, keys []store.PublicKey) (list []store.Segment, where map[string]string, err error) {
	where = map[string]string{}
	root := filepath.Clean(folder) + string(filepath.Separator)
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrPermission) && path != root {
			return fs.SkipDir
		}
		if err != nil {
			return fmt.Errorf("look through the binary logs: %w", err)
		}
		if entry.IsDir() || strings.HasPrefix(entry.Name(), ".") || !strings.HasSuffix(entry.Name(), binlog.ManifestSuffix) {
			return nil
		}
		s, ok := signedSegment(path, keys)
		if ok && s.Cluster == cluster {
			list = append(list, s)
			where[s.ID()] = strings.TrimSuffix(path, binlog.ManifestSuffix)
		}
		return nil
	})
	return list, where, err
}

func signedSegment(path string, keys []store.PublicKey) (store.Segment, bool) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return store.Segment{}, false
	}
	for _, key := range keys {
		if s, err := store.VerifySegment(raw, key); err == nil {
			return s, true
		}
	}
	return store.Segment{}, false
}

// replaying are the phases of a replay.
func (o RestoreOptions) replaying(c *recovery.Copy) []recovery.Phase {
	return c.Replaying(func(ctx context.Context, l recovery.Login, dir string) error {
		return o.Replay.Run(ctx, binlog.Target{Socket: l.Socket, User: l.User, Password: l.Password}, dir)
	})
}
