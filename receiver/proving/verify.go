package proving

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"drydock/bus"
	"drydock/receiver/duty"
	"drydock/receiver/sink"
	"drydock/store"
)

const taskVerify = "backupverify"

// Damage reads the file of a backup and says how it differs from what its manifest says, empty when it does not. moved, if not
// nil, gets the bytes read so far. Errors are about the look, and blame no backup: the context's cause, a file that is being deleted
// or that this process cannot read now, a folder that is not there, as without a mount.
func Damage(ctx context.Context, path string, m store.Manifest, moved func(int64)) (problem string, err error) {
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return "", fmt.Errorf("look for the folder of the backup: %w", err)
	}
	sum, size, err := sink.HashFile(ctx, path, m.Algo, moved)
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case errors.Is(err, fs.ErrNotExist):
		return "the file is missing", nil
	case unreadable(err):
		return err.Error(), nil
	case err != nil:
		return "", err
	case size != m.Stored:
		return fmt.Sprintf("the file has %d bytes, the manifest says %d", size, m.Stored), nil
	case !strings.EqualFold(sum, m.StoredHash):
		return "the file is not what was received: its " + m.Algo + " hash differs from the manifest's", nil
	}
	return "", nil
}

// unreadable tells what the disk cannot read back from what keeps this process from reading now: too many open files, a mount
// that has gone stale, a lock, a right.
func unreadable(err error) bool {
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.EBADMSG) || errors.Is(err, unix.EUCLEAN)
}

// Verify looks whether manifest and file of a backup of the catalogue are those that were signed, with one of the keys trusted: the
// signature, the size, and the hash over every byte, which the checks of the format were made with when it came. Errors as of
// [Damage], and for a backup that was never signed with one of the keys, or of which nothing at all is there: that it is lost is
// for a prune to say.
func Verify(ctx context.Context, m store.Manifest, trusted []store.PublicKey, moved func(int64)) (problem string, err error) {
	if !signedBy(m, trusted) {
		return "", errors.New("by the catalogue it is not signed with a key that this receiver trusts")
	}
	good, path, err := Signed(m, trusted)
	var look *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return missing(path)
	case errors.As(err, &look) && !unreadable(err), errors.Is(err, bus.ErrNewer):
		return "", err
	case err != nil:
		return err.Error(), nil
	case good.Stored != m.Stored || good.StoredHash != m.StoredHash || good.Cluster != m.Cluster || good.Server != m.Server:
		return "the catalogue says something else of it than its signed manifest", nil
	}
	return Damage(ctx, path, good, moved)
}

func signedBy(m store.Manifest, trusted []store.PublicKey) bool {
	return m.Signature != nil && slices.ContainsFunc(trusted, func(k store.PublicKey) bool { return k.String() == m.Signature.Key })
}

// missing says which of a backup's files is missing. An empty folder may be that of another disk: a receiver makes it anew for the
// next backup when the mount is away.
func missing(path string) (problem string, err error) {
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return "", fmt.Errorf("look for the folder of the backup: %w", err)
	}
	var gone []string
	for _, name := range []string{path, path + manifestSuffix} {
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
			gone = append(gone, name)
		} else if err != nil {
			return "", fmt.Errorf("look for the backup: %w", err)
		}
	}
	switch len(gone) {
	case 0:
		return "", fmt.Errorf("%s came back while it was looked for", path)
	case 1:
		return gone[0] + " is missing", nil
	}
	return "", fmt.Errorf("neither %s nor its manifest is there: is the disk mounted that they are on", path)
}

// oldestLook lists the backups of a cluster that are to be verified, the first first: those whose bytes nobody has looked at, or tried
// to, for longest: some that cannot be read would have every turn otherwise. One that was found bad is left out: its bytes are the same tomorrow; and so is one that none of the keys can vouch for.
// It is pure; list is newest first.
func oldestLook(list []store.Manifest, trusted []store.PublicKey) []store.Manifest {
	looked := func(m store.Manifest) (at time.Time) {
		at = m.Ended
		if v, ok := m.Verified(); ok {
			at = v.Time
		}
		if d, ok := m.Restored(); ok && d.Time.After(at) {
			at = d.Time
		}
		if u := m.Unseen(); u != nil && u.Time.After(at) {
			at = u.Time
		}
		return at
	}
	out := slices.DeleteFunc(slices.Clone(list), func(m store.Manifest) bool {
		_, bad := m.Fault()
		return bad || !signedBy(m, trusted)
	})
	slices.SortStableFunc(out, func(a, b store.Manifest) int {
		return cmp.Or(looked(a).Compare(looked(b)), strings.Compare(a.ID, b.ID))
	})
	return out
}

// verify verifies one backup and records what was found.
func (w *Worker) verify(ctx context.Context, d *duty.Work, _ Cluster, m store.Manifest) (duty.Result, error) {
	d.Note(name(m) + ": reads it and compares it with its manifest")
	began, read := time.Now(), int64(0)
	problem, err := Verify(ctx, m, w.trusted, func(n int64) {
		read = n
		d.Moved(n, 100*float64(n)/float64(max(m.Stored, n, 1)))
	})
	if err != nil {
		if ctx.Err() == nil {
			u := store.Unverified{Time: time.Now().UTC(), By: by(d.Job()), Why: err.Error()}
			err = errors.Join(err, w.record(ctx, func(ctx context.Context) error { return w.catalog.SetUnverified(ctx, m, u) }))
		}
		return duty.Result{}, err
	}
	if problem != "" { // a prune may have been at it
		now, err := w.catalog.Get(ctx, m.Cluster, m.Server, m.ID)
		if err != nil {
			return duty.Result{}, fmt.Errorf("make sure that it was not deleted meanwhile: %w", err)
		}
		if now.Path != m.Path {
			return duty.Result{}, fmt.Errorf("it was moved to %s meanwhile", now.Path)
		}
	}
	found := store.Verification{
		Time: time.Now().UTC(), By: by(d.Job()), Problem: problem, Bytes: read, Seconds: time.Since(began).Seconds(),
	}
	err = w.record(ctx, func(ctx context.Context) error { return w.catalog.AddVerification(ctx, m, found) })
	if err != nil {
		return duty.Result{}, err
	}
	if problem != "" {
		return duty.Result{Tool: "verify", Finding: name(m) + ": " + problem}, nil
	}
	return duty.Result{
		Tool: "verify", Text: fmt.Sprintf("%s is what was signed: %d bytes read in %.1f s, signature, size and %s hash are right", name(m), read, found.Seconds, m.Algo),
	}, nil
}
