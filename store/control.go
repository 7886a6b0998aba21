package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"drydock/bus"
	"drydock/job"
)

// Closures are the holds and blackouts in force or to come, of every cluster.
type Closures struct {
	Holds     []Hold     `json:"holds"`
	Blackouts []Blackout `json:"blackouts"` // in the order in which they begin
}

// Hold keeps everything from beginning until it is lifted. There is at most one of a cluster and one of the fleet.
type Hold struct {
	Cluster string    `json:"cluster,omitempty"` // empty: the whole fleet
	Reason  string    `json:"reason,omitempty"`
	By      string    `json:"by"`
	Since   time.Time `json:"since"`
}

// String says it for people: "the fleet is on hold since 2026-11-22 20:00:00 UTC, by alice: storage move".
func (h Hold) String() string {
	return fmt.Sprintf("%s is on hold since %s, by %s%s", scopeOf(h.Cluster), utc(h.Since), h.By, because(h.Reason))
}

// Blackout keeps everything from beginning between two times.
type Blackout struct {
	ID      string    `json:"id"`
	Cluster string    `json:"cluster,omitempty"` // empty: the whole fleet
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	Reason  string    `json:"reason,omitempty"`
	By      string    `json:"by"`
}

// String says it for people.
func (b Blackout) String() string {
	return fmt.Sprintf("%s is blacked out from %s to %s, by %s%s", scopeOf(b.Cluster), utc(b.From), utc(b.To), b.By, because(b.Reason))
}

func scopeOf(cluster string) string {
	if cluster == "" {
		return "the fleet"
	}
	return "cluster " + cluster
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

func utc(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }

// Hold is the one that a cluster is under, the fleet's before its own.
func (c Closures) Hold(cluster string) (Hold, bool) {
	for _, of := range []string{"", cluster} {
		for _, h := range c.Holds {
			if h.Cluster == of {
				return h, true
			}
		}
	}
	return Hold{}, false
}

// Blackout is one that a cluster is in at t, of several the one that ends last.
func (c Closures) Blackout(cluster string, t time.Time) (found Blackout, ok bool) {
	for _, b := range c.Blackouts {
		if (b.Cluster == "" || b.Cluster == cluster) && !t.Before(b.From) && t.Before(b.To) && b.To.After(found.To) {
			found, ok = b, true
		}
	}
	return found, ok
}

// Shut says why nothing may begin on a cluster at t; false when a hold or blackout does not keep it.
func (c Closures) Shut(cluster string, t time.Time) (why string, shut bool) {
	if h, ok := c.Hold(cluster); ok {
		return h.String(), true
	}
	if b, ok := c.Blackout(cluster, t); ok {
		return b.String(), true
	}
	return "", false
}

// Places lists the backups of a cluster that were given one of scheduler-max-concurrent-backups places.
type Places struct {
	Taken []Place `json:"taken"`
}

// Place is taken by one attempt of a job.
type Place struct {
	Run string  `json:"run"` // [job.Job.Run]
	Key job.Key `json:"key"`
}

// ErrNoClosure is returned for a hold or blackout that there is not.
var ErrNoClosure = errors.New("no such hold or blackout")

// ErrBlackout is in the chain of an error that says what is wrong with a blackout.
var ErrBlackout = errors.New("not a blackout")

// Control reads and changes what operators ordered and schedulers agreed on (bucket drydock_control). Every change is
// compare-and-swap, and on disk when it is acknowledged. Safe for concurrent use.
type Control struct{ c *bus.Conn }

// NewControl uses the bucket drydock_control.
func NewControl(c *bus.Conn) *Control { return &Control{c} }

const (
	keyClosures = "_closures"
	keyPlaces   = "_places"
	// keepEnded is how long a blackout is still listed after its end.
	keepEnded = 7 * 24 * time.Hour
	// maxBlackouts bounds the document that every tick reads.
	maxBlackouts = 1000
)

// Closures reads the holds and blackouts.
func (c *Control) Closures(ctx context.Context) (Closures, error) {
	kv, err := c.c.Bucket(ctx, bus.BucketControl)
	if err != nil {
		return Closures{}, err
	}
	v, _, err := readControl[Closures](ctx, kv, keyClosures)
	return v, err
}

// SetHold puts h in force, in place of the one of the same scope. One that says the same stays, with its Since.
func (c *Control) SetHold(ctx context.Context, h Hold) (Hold, error) {
	h.Since = time.Now().UTC().Truncate(time.Second)
	var now Hold
	err := c.closures(ctx, func(v *Closures) (bool, error) {
		i := slices.IndexFunc(v.Holds, func(x Hold) bool { return x.Cluster == h.Cluster })
		if i >= 0 && v.Holds[i].Reason == h.Reason && v.Holds[i].By == h.By {
			now = v.Holds[i]
			return false, nil
		}
		if i >= 0 {
			v.Holds = slices.Delete(v.Holds, i, i+1)
		}
		v.Holds, now = append(v.Holds, h), h
		return true, nil
	})
	return now, err
}

// LiftHold ends the hold of a cluster, or of the fleet (empty), and returns it. Errors: [ErrNoClosure].
func (c *Control) LiftHold(ctx context.Context, cluster string) (lifted Hold, err error) {
	err = c.closures(ctx, func(v *Closures) (bool, error) {
		i := slices.IndexFunc(v.Holds, func(x Hold) bool { return x.Cluster == cluster })
		switch {
		case i >= 0:
			lifted = v.Holds[i]
			v.Holds = slices.Delete(v.Holds, i, i+1)
			return true, nil
		case lifted.By != "":
			return false, nil // an earlier try did it after all
		}
		return false, fmt.Errorf("%w: %s is not on hold", ErrNoClosure, scopeOf(cluster))
	})
	return lifted, err
}

// AddBlackout records a blackout under a new id. Errors: [ErrBlackout].
func (c *Control) AddBlackout(ctx context.Context, b Blackout) (Blackout, error) {
	b.From, b.To = b.From.UTC(), b.To.UTC()
	switch {
	case b.From.IsZero() || b.To.IsZero():
		return b, fmt.Errorf("%w: it needs a beginning and an end", ErrBlackout)
	case !b.From.Before(b.To):
		return b, fmt.Errorf("%w: it ends at %s and begins at %s", ErrBlackout, utc(b.To), utc(b.From))
	case !b.To.After(time.Now()):
		return b, fmt.Errorf("%w: it ended at %s already", ErrBlackout, utc(b.To))
	}
	b.ID = bus.NewMessageID()
	err := c.closures(ctx, func(v *Closures) (bool, error) {
		if slices.ContainsFunc(v.Blackouts, func(x Blackout) bool { return x.ID == b.ID }) {
			return false, nil // an earlier try did it after all
		}
		if len(v.Blackouts) >= maxBlackouts {
			return false, fmt.Errorf("%w: there are %d already; remove some", ErrBlackout, maxBlackouts)
		}
		v.Blackouts = append(v.Blackouts, b)
		slices.SortStableFunc(v.Blackouts, func(a, b Blackout) int { return a.From.Compare(b.From) })
		return true, nil
	})
	return b, err
}

// RemoveBlackout ends or calls off a blackout and returns it. Errors: [ErrNoClosure].
func (c *Control) RemoveBlackout(ctx context.Context, id string) (removed Blackout, err error) {
	err = c.closures(ctx, func(v *Closures) (bool, error) {
		i := slices.IndexFunc(v.Blackouts, func(x Blackout) bool { return x.ID == id })
		switch {
		case i >= 0:
			removed = v.Blackouts[i]
			v.Blackouts = slices.Delete(v.Blackouts, i, i+1)
			return true, nil
		case removed.ID != "":
			return false, nil
		}
		return false, fmt.Errorf("%w: blackout %q", ErrNoClosure, id)
	})
	return removed, err
}

// closures changes the document of holds and blackouts and drops what ended long ago.
func (c *Control) closures(ctx context.Context, change func(*Closures) (changed bool, err error)) error {
	return updateControl(ctx, c.c, keyClosures, func(v *Closures) (bool, error) {
		v.Blackouts = slices.DeleteFunc(v.Blackouts, func(b Blackout) bool { return time.Since(b.To) > keepEnded })
		return change(v)
	})
}

// Places changes who has a place on a cluster, unless change answers false. It may run several times.
func (c *Control) Places(ctx context.Context, cluster string, change func(*Places) (changed bool, err error)) error {
	return updateControl(ctx, c.c, bus.ControlKey(cluster, keyPlaces), change)
}

// IsPlaces reports whether a subject of the bucket is about [Places], which change with every backup; what stands in the others
// is for people to know.
func IsPlaces(subject string) bool { return strings.HasSuffix(subject, "."+keyPlaces) }

// updateControl reads a document, lets change work on it and writes it back if nobody else did meanwhile; otherwise, and
// when the write's fate is not known, it begins again.
func updateControl[T any](ctx context.Context, c *bus.Conn, key string, change func(*T) (bool, error)) error {
	kv, err := c.Bucket(ctx, bus.BucketControl)
	if err != nil {
		return err
	}
	_, err = update(ctx, kv, key, change)
	return err
}

// docType is the version of the documents in the buckets that have no type of their own: users, holds, blackouts,
// acknowledgements, places, leases, states and what is known of servers.
const docType = "drydock.v1.document"

// update is updateControl for any bucket. It returns the revision that the document has now.
func update[T any](ctx context.Context, kv jetstream.KeyValue, key string, change func(*T) (bool, error)) (revision uint64, err error) {
	for range tries(ctx) {
		v, was, rerr := readControl[T](ctx, kv, key)
		if rerr != nil {
			return 0, rerr
		}
		changed, cerr := change(&v)
		if cerr != nil || !changed {
			return was, cerr
		}
		data, merr := bus.Encode(docType, v)
		if merr != nil {
			return 0, fmt.Errorf("encode %s: %w", key, merr)
		}
		if was == 0 {
			revision, err = kv.Create(ctx, key, data)
		} else {
			revision, err = kv.Update(ctx, key, data, was)
		}
		if err == nil {
			return revision, nil
		}
	}
	return 0, fmt.Errorf("change %s: %w", key, errors.Join(ErrBusy, err))
}

// tries are [casTries] tries to change a key, with longer and longer waits between them: what somebody else has written is in the way as soon
// as a bus with copies has taken it, but is read only when most of its servers have it on disk.
func tries(ctx context.Context) iter.Seq[int] {
	const first, most = 10 * time.Millisecond, time.Second
	return func(yield func(int) bool) {
		for try, wait := 0, time.Duration(0); try < casTries; try, wait = try+1, min(max(2*wait, first), most) {
			select {
			case <-ctx.Done(): // which the try itself says
			case <-time.After(wait):
			}
			if !yield(try) {
				return
			}
		}
	}
}

// readControl reads a document and its revision; one that there is not is its zero value, revision 0.
func readControl[T any](ctx context.Context, kv jetstream.KeyValue, key string) (v T, revision uint64, err error) {
	e, err := kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return v, 0, nil
	}
	if err != nil {
		return v, 0, fmt.Errorf("read %s: %w", key, err)
	}
	if err := bus.Decode(e.Value(), &v); err != nil {
		return v, 0, fmt.Errorf("decode %s: %w", key, err)
	}
	return v, e.Revision(), nil
}
