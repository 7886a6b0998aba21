package store

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"drydock/bus"
	"drydock/job"
)

// Pin is the word of an operator about whether a backup is kept whatever the rules say. The last word counts; one that
// takes a pin away stays as a record, so that an older copy of the notes does not bring the pin back.
type Pin struct {
	On     bool      `json:"on"`
	Time   time.Time `json:"time"`
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
}

// Removal says that the file of a backup is being deleted, or is. It is recorded before the first file goes: from then on
// the entry is no backup any more for anybody but who prunes.
type Removal struct {
	Time time.Time `json:"time"`
	By   string    `json:"by"`  // receiver and job
	Why  string    `json:"why"` // the rule
	// Done is when the files were gone. An entry that stays with it tells of a copy in the archive.
	Done time.Time `json:"done,omitzero"`
}

// Pinned reports whether an operator keeps the backup.
func (m Manifest) Pinned() bool { return m.Pin != nil && m.Pin.On }

// Listed reports whether the entry stands for a backup: one whose file is there and not about to go.
func (m Manifest) Listed() bool { return m.Removal == nil }

// NotesType is the version of [Notes].
const NotesType = "drydock.v1.notes"

// Notes is what is known of a backup beyond its manifest, as FILE.notes.json beside it. The catalogue has the same; the
// file is what is left of it when the bus is lost.
type Notes struct {
	Type     string    `json:"type"`
	ID       string    `json:"id"`
	Of       string    `json:"of"` // the signature of the manifest that these are notes about
	Pin      *Pin      `json:"pin,omitempty"`
	Archives []Archive `json:"archives,omitempty"`
	Drills   []Drill   `json:"drills,omitempty"`
	Restores []Restore `json:"restores,omitempty"`
	Removal  *Removal  `json:"removal,omitempty"`
	// Verifications as in the manifest.
	Verifications []Verification `json:"verifications,omitempty"`
	// Signature covers everything else.
	Signature *Signature `json:"signature,omitempty"`
}

// NotesOf are the notes of an entry of the catalogue, not signed; ok is false when there is nothing to note.
func NotesOf(m Manifest) (n Notes, ok bool) {
	n = Notes{
		Type: NotesType, ID: m.ID, Pin: m.Pin, Archives: m.Archives, Drills: m.Drills, Verifications: m.Verifications,
		Restores: m.Restores, Removal: m.Removal,
	}
	if m.Signature != nil {
		n.Of = m.Signature.Value
	}
	return n, n.Pin != nil || n.Removal != nil || len(n.Archives)+len(n.Drills)+len(n.Verifications)+len(n.Restores) > 0
}

// notesDomain keeps a signature of notes from being one of a manifest.
const notesDomain = NotesType + "\n"

// SignNotes returns n with its signature. The same notes get the same one every time.
func (s Signer) SignNotes(n Notes) (Notes, error) {
	n.Signature = nil
	raw, err := json.Marshal(n)
	if err != nil {
		return n, fmt.Errorf("encode notes of %s: %w", n.ID, err)
	}
	text, _, err := canonical(raw, []string{"signature"})
	if err != nil {
		return n, fmt.Errorf("sign notes of %s: %w", n.ID, err)
	}
	n.Signature = &Signature{
		Key:   s.Public().String(),
		Value: base64.StdEncoding.EncodeToString(ed25519.Sign(s.key, append([]byte(notesDomain), text...))),
	}
	return n, nil
}

// ErrOtherNotes: they are about another backup than the one they lie beside.
var ErrOtherNotes = errors.New("the notes are about another backup")

// VerifyNotes are the notes that the signature of raw vouches for, if the trusted key made it and they are about m.
// Errors: [ErrUnsigned], [ErrOtherKey], [ErrSignature], [ErrOtherNotes].
func VerifyNotes(raw []byte, trusted PublicKey, m Manifest) (Notes, error) {
	text, _, err := signedText(raw, trusted, []string{"signature"}, notesDomain)
	if err != nil {
		return Notes{}, err
	}
	var n Notes
	if err := json.Unmarshal(text, &n); err != nil {
		return Notes{}, fmt.Errorf("decode notes: %w", err)
	}
	if n.ID != m.ID || m.Signature == nil || n.Of != m.Signature.Value {
		return Notes{}, ErrOtherNotes
	}
	return n, nil
}

// with is m with what notes know beyond it. Of two words about a pin the later one counts, and in doubt the one that keeps
// the backup; what is known of drills and archives is added up.
func (m Manifest) with(n Notes) Manifest {
	if p, q := m.Pin, n.Pin; p == nil || q != nil && (q.Time.After(p.Time) || q.Time.Equal(p.Time) && q.On) {
		m.Pin = q
	}
	m.Drills = slices.Clone(m.Drills)
	for _, d := range n.Drills {
		if !slices.ContainsFunc(m.Drills, func(x Drill) bool { return x.Time.Equal(d.Time) && x.By == d.By }) {
			m.Drills = append(m.Drills, d)
		}
	}
	slices.SortStableFunc(m.Drills, func(a, b Drill) int { return a.Time.Compare(b.Time) })
	m.Drills = lastDrills(m.Drills)
	m.Verifications = slices.Clone(m.Verifications)
	for _, v := range n.Verifications {
		if !slices.ContainsFunc(m.Verifications, v.same) {
			m.Verifications = append(m.Verifications, v)
		}
	}
	slices.SortStableFunc(m.Verifications, func(a, b Verification) int { return a.Time.Compare(b.Time) })
	m.Verifications = lastVerifications(m.Verifications)
	m.Restores = slices.Clone(m.Restores)
	for _, r := range n.Restores {
		if !slices.ContainsFunc(m.Restores, func(x Restore) bool { return x.Time.Equal(r.Time) && x.By == r.By }) {
			m.Restores = append(m.Restores, r)
		}
	}
	slices.SortStableFunc(m.Restores, func(a, b Restore) int { return a.Time.Compare(b.Time) })
	m.Restores = m.Restores[max(0, len(m.Restores)-restoresKept):]
	m.Archives = slices.Clone(m.Archives)
	for _, a := range n.Archives {
		i := slices.IndexFunc(m.Archives, func(x Archive) bool { return x.Snapshot == a.Snapshot && x.Repository == a.Repository })
		switch {
		case i < 0:
			m.Archives = append(m.Archives, a)
		case m.Archives[i].Gone.IsZero():
			m.Archives[i].Gone = a.Gone
		}
	}
	slices.SortStableFunc(m.Archives, func(a, b Archive) int { return a.Time.Compare(b.Time) })
	return m
}

// Lacks reports whether notes have a later word about the pin, a drill or a verification, that m does not know of: it is from an older catalogue.
func (m Manifest) Lacks(n Notes) bool {
	next := m.with(Notes{Pin: n.Pin, Drills: n.Drills, Verifications: n.Verifications})
	samePin := next.Pin == m.Pin || next.Pin != nil && m.Pin != nil && next.Pin.On == m.Pin.On && next.Pin.Time.Equal(m.Pin.Time)
	return !samePin || !slices.EqualFunc(next.Drills, m.Drills, func(a, b Drill) bool { return a.Time.Equal(b.Time) && a.By == b.By }) ||
		!slices.EqualFunc(next.Verifications, m.Verifications, Verification.same)
}

// Found records a backup whose file was found where m says, with the notes that lay beside it (the zero value for none).
// What the catalogue knows already stays, and so does a removal that is under way: who prunes looks at it again.
func (c *Catalog) Found(ctx context.Context, m Manifest, n Notes) error {
	return c.update(ctx, m, func(now Manifest, _ bool) (Manifest, bool) {
		next := m
		next.Pin, next.Drills, next.Verifications, next.Archives = now.Pin, now.Drills, now.Verifications, now.Archives
		next.Restores, next.Removal = now.Restores, now.Removal
		if next.Removal != nil && !next.Removal.Done.IsZero() {
			next.Removal = nil // it was got back from the archive
		}
		return next.with(n), true
	})
}

// ErrRemoved is returned for a backup whose file is deleted, or about to be.
var ErrRemoved = errors.New("the backup is deleted")

// SetPin records an operator's word about a backup. Errors: [ErrNoBackup], [ErrRemoved].
func (c *Catalog) SetPin(ctx context.Context, m Manifest, p Pin) (now Manifest, err error) {
	return c.edit(ctx, m, func(now Manifest) (Manifest, error) {
		if now.Removal != nil {
			return now, fmt.Errorf("%w: %s", ErrRemoved, m.ID)
		}
		if was := now.Pin; was != nil && !p.Time.After(was.Time) { // notes go by the time, and the clocks of two operators may differ
			p.Time = was.Time.Add(time.Millisecond)
		}
		now.Pin = &p
		return now, nil
	})
}

// ErrPinned is returned for a backup that an operator keeps.
var ErrPinned = errors.New("the backup is pinned")

// Remove records that the files of a backup are about to go. It must be written before the first of them goes. check looks at
// the entry as it is now. Errors: [ErrNoBackup], [ErrPinned], those of check.
func (c *Catalog) Remove(ctx context.Context, m Manifest, r Removal, check func(now Manifest) error) (now Manifest, err error) {
	return c.edit(ctx, m, func(now Manifest) (Manifest, error) {
		if now.Pinned() {
			return now, fmt.Errorf("%w: %s", ErrPinned, m.ID)
		}
		if now.Removal == nil {
			now.Removal = &r
		}
		return now, check(now)
	})
}

// Spare takes the record back that the files of a backup are about to go: they are all there, and are to stay.
func (c *Catalog) Spare(ctx context.Context, m Manifest) error {
	_, err := c.edit(ctx, m, func(now Manifest) (Manifest, error) {
		now.Removal = nil
		return now, nil
	})
	return err
}

// Removed takes the entry of a backup out whose files are gone. While an archive has a copy it stays and tells of that.
// It may be repeated.
func (c *Catalog) Removed(ctx context.Context, m Manifest) error {
	for range tries(ctx) {
		now, revision, err := c.entry(ctx, m.Cluster, m.Server, m.ID)
		if errors.Is(err, ErrNoBackup) {
			return nil
		}
		if err != nil {
			return err
		}
		if now.Removal == nil {
			return fmt.Errorf("take backup %s out of the catalogue: nobody has recorded that it goes", m.ID)
		}
		if _, copied := now.Archived(); copied {
			_, err := c.edit(ctx, m, func(now Manifest) (Manifest, error) {
				if now.Removal != nil && now.Removal.Done.IsZero() {
					r := *now.Removal
					r.Done = time.Now().UTC()
					now.Removal = &r
				}
				return now, nil
			})
			return err
		}
		kv, err := c.c.Bucket(ctx, bus.BucketCatalog)
		if err != nil {
			return err
		}
		err = kv.Delete(ctx, bus.CatalogKey(m.Cluster, m.Server.Host, m.Server.Port, m.ID), jetstream.LastRevision(revision))
		switch {
		case err == nil:
			return nil
		case !bus.Overtaken(err):
			return fmt.Errorf("take backup %s out of the catalogue: %w", m.ID, err)
		}
	}
	return fmt.Errorf("take backup %s out of the catalogue: %w", m.ID, ErrBusy)
}

// edit changes an entry that is there, compare-and-swap, and returns it as it is then.
func (c *Catalog) edit(ctx context.Context, m Manifest, change func(now Manifest) (Manifest, error)) (now Manifest, err error) {
	var refused error
	err = c.update(ctx, m, func(was Manifest, exists bool) (Manifest, bool) {
		if !exists {
			refused = fmt.Errorf("%w: %q of %s in cluster %s", ErrNoBackup, m.ID, m.Server, m.Cluster)
			return was, false
		}
		now, refused = change(was)
		return now, refused == nil
	})
	return now, errors.Join(err, refused)
}

// All is [Catalog.List] with the entries of backups whose files are deleted, or about to be.
func (c *Catalog) All(ctx context.Context, cluster string, server job.Server) ([]Manifest, error) {
	return c.list(ctx, cluster, server, func(Manifest) bool { return true })
}

// ByID finds a backup by its id alone. Errors: [ErrNoBackup].
func (c *Catalog) ByID(ctx context.Context, id string) (Manifest, error) {
	all, err := c.All(ctx, "", job.Server{})
	if err != nil {
		return Manifest{}, err
	}
	for _, m := range all {
		if m.ID == id {
			return m, nil
		}
	}
	return Manifest{}, fmt.Errorf("%w: %q", ErrNoBackup, id)
}

// ByKey reads an entry, also one whose files are deleted or about to be. Errors: [ErrNoBackup].
func (c *Catalog) ByKey(ctx context.Context, cluster string, s job.Server, id string) (Manifest, error) {
	m, _, err := c.entry(ctx, cluster, s, id)
	return m, err
}
