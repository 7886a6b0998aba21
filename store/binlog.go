package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/bus"
	"drydock/job"
)

// SegmentType is the version of [Segment].
const SegmentType = "drydock.v1.binlog"

// Segment describes a piece of an archived binary log: a file of frames (package receiver/binlog). It stands as JSON beside that
// file, as FILE.segment.json, and in drydock_binlogs. It is written again whenever more of the log is on disk, until Open is
// false. Sizes are bytes, times UTC, positions those of the server's file, hashes hex.
type Segment struct {
	Type     string     `json:"type"`
	Cluster  string     `json:"cluster"`
	Server   job.Server `json:"server"`
	Receiver string     `json:"receiver"`
	Path     string     `json:"path"` // on the receiver's machine
	Flavor   string     `json:"flavor"`
	// File is the name of the log on its server. Names come again, after RESET MASTER for one: Log tells the logs apart, a hash
	// of how the log begins.
	File    string    `json:"file"`
	Log     string    `json:"log"`
	Created time.Time `json:"created"` // of the log, by the server's clock
	Taken   time.Time `json:"taken"`   // when the segment was begun, by the receiver's clock: the order of the archive
	Start   int64     `json:"start"`   // 0 with the magic bytes of the file
	End     int64     `json:"end"`
	// Prev is the segment that this one goes on from without a gap, as the server sent it. Without one the archive begins
	// here, goes on on another server, or has Gap before it.
	Prev string `json:"prev,omitempty"`
	Gap  *Gap   `json:"gap,omitempty"`
	// Before and After are the last transactions of each domain at Start and at End, as in 0-1-42,1-1-7.
	Before string `json:"before"`
	After  string `json:"after"`
	// Stream is like Before what this server's own log had had at Start. On a server that became the primary it is behind: what
	// lies between is here once more.
	Stream string `json:"stream"`
	Own    string `json:"own"` // the same at End
	// Next is the file that the server wrote next, once the log has ended.
	Next   string `json:"next,omitempty"`
	Events int64  `json:"events"`
	// First and Last are the times of the first and the last event, by the server's clock.
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`
	// Seen is until when, by the receiver's clock, the server is known to have logged nothing after End.
	Seen time.Time `json:"seen,omitzero"`
	// Tail and TailSum are the position of the last event and the CRC-32 of its bytes: a log that goes on has it there.
	Tail    int64  `json:"tail"`
	TailSum uint32 `json:"tail_sum"`
	// Bound is where the last whole transaction ends. Segments begin between two transactions.
	Bound int64 `json:"bound"`
	// Format is the log's format description event, without which no other can be read.
	Format []byte `json:"format"`

	Open      bool       `json:"open,omitempty"` // it still grows: the file may be longer than Stored
	Compress  string     `json:"compress"`
	Encrypted bool       `json:"encrypted,omitempty"`
	Size      int64      `json:"size"`   // of the events
	Stored    int64      `json:"stored"` // of the file
	Algo      string     `json:"algo"`
	Hash      string     `json:"hash"` // of the first Stored bytes of the file
	Signature *Signature `json:"signature,omitempty"`
	// Lost says why the file is no longer what was stored, as its receiver last found it. Only the catalogue has it.
	Lost string `json:"lost,omitempty"`
}

// ID names the segment in its cluster.
func (s Segment) ID() string {
	return fmt.Sprintf("%s-%s-%s-%012d-%s", s.Server, s.File, s.Log, s.Start, s.Taken.UTC().Format(segmentTime))
}

// segmentTime tells segments apart that begin at the same position: a server that is primary again is archived again.
const segmentTime = "20060102T150405.000Z"

// Name is the name of its file, of which every character that may not be in one is =HH.
func (s Segment) Name() string {
	return bus.FileToken(s.File) + "-" + s.Log + fmt.Sprintf("-%012d-", s.Start) + s.Taken.UTC().Format(segmentTime) + ".binlog"
}

// Until is until when the archive is known to hold all that the server logged.
func (s Segment) Until() time.Time {
	if s.Seen.After(s.Last) {
		return s.Seen
	}
	return s.Last
}

// Gap is a piece of history that the archive does not have. It stays known with the segment after it.
type Gap struct {
	Found  time.Time `json:"found"`
	Since  time.Time `json:"since,omitzero"`  // until when the archive has all
	Before string    `json:"before"`          // the last transactions that are archived
	After  string    `json:"after,omitempty"` // where the archive goes on
	Reason string    `json:"reason"`
}

// DocBinlogs is the document of a cluster with its [BinlogStatus].
const DocBinlogs = "_binlogs"

// BinlogStatus says how the archiving of a cluster's binary log stands.
type BinlogStatus struct {
	Time     time.Time  `json:"time"` // when this was true
	Receiver string     `json:"receiver"`
	Server   job.Server `json:"server"` // whose log is archived; zero while no primary is known
	// Until is until when all that the server logged is in the archive, by the clock of the receiver.
	Until time.Time `json:"until,omitzero"`
	// Since is when Err began; Err is why nothing is archived, for people.
	Since time.Time `json:"since,omitzero"`
	Err   string    `json:"err,omitempty"`
}

// SignSegment returns s with its signature.
func (s Signer) SignSegment(g Segment) (Segment, error) {
	g.Signature = nil
	var err error
	g.Signature, err = s.sign(g, g.ID())
	return g, err
}

// VerifySegment is [VerifyManifest] for segments.
func VerifySegment(raw []byte, trusted PublicKey) (Segment, error) {
	text, sig, err := signedText(raw, trusted, unsigned, "")
	if err != nil {
		return Segment{}, err
	}
	var s Segment
	if err := json.Unmarshal(text, &s); err != nil {
		return Segment{}, fmt.Errorf("decode manifest: %w", err)
	}
	if s.Type != SegmentType {
		return Segment{}, fmt.Errorf("decode manifest: its type is %q, not %s", s.Type, SegmentType)
	}
	s.Signature = sig
	return s, nil
}

// Binlogs lists the segments of archived binary logs. Safe for concurrent use.
type Binlogs struct{ c *bus.Conn }

// NewBinlogs uses the bucket drydock_binlogs.
func NewBinlogs(c *bus.Conn) *Binlogs { return &Binlogs{c} }

// Put records what is known of a segment now.
func (b *Binlogs) Put(ctx context.Context, s Segment) error {
	kv, err := b.c.Bucket(ctx, bus.BucketBinlogs)
	if err != nil {
		return err
	}
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode segment %s: %w", s.ID(), err)
	}
	if _, err := kv.Put(ctx, segmentKey(s), data); err != nil {
		return fmt.Errorf("record segment %s: %w", s.ID(), err)
	}
	return nil
}

func segmentKey(s Segment) string {
	return bus.BinlogKey(s.Cluster, s.Server.Host, s.Server.Port, s.Name())
}

// Remove forgets a segment.
func (b *Binlogs) Remove(ctx context.Context, s Segment) error {
	kv, err := b.c.Bucket(ctx, bus.BucketBinlogs)
	if err != nil {
		return err
	}
	if err := kv.Purge(ctx, segmentKey(s)); err != nil {
		return fmt.Errorf("forget segment %s: %w", s.ID(), err)
	}
	return nil
}

// List reads the segments of a cluster in the order in which they were taken; an empty cluster means all.
func (b *Binlogs) List(ctx context.Context, cluster string) (out []Segment, err error) {
	keys := ">"
	if cluster != "" {
		keys = bus.BinlogFilter(cluster)
	}
	err = b.c.Entries(ctx, bus.BucketBinlogs, keys, func(e bus.Entry) error {
		var s Segment
		if err := bus.Decode(e.Value, &s); err != nil {
			return fmt.Errorf("decode segment %s: %w", e.Key, err)
		}
		out = append(out, s)
		return nil
	})
	if err != nil {
		return nil, err
	}
	SortSegments(out)
	return out, nil
}

// SortSegments brings segments into the order in which they were taken.
func SortSegments(list []Segment) {
	slices.SortFunc(list, func(a, b Segment) int {
		if c := strings.Compare(a.Cluster, b.Cluster); c != 0 {
			return c
		}
		if c := a.Taken.Compare(b.Taken); c != 0 {
			return c
		}
		return strings.Compare(a.ID(), b.ID())
	})
}
