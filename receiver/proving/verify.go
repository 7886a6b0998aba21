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

	"drydock/receiver/duty"
	"drydock/receiver/sink"
	"drydock/store"
)

const taskVerify = "backupverify"

// Damage reads the file of a backup and says how it differs from what its manifest says, empty when it does not. moved, if not
// nil, gets the bytes read so far. Errors are about the look, and blame no backup: the context's cause, a file or a folder that
// may not be read or that is being deleted, a folder that is not there, as without a mount.
func Damage(ctx context.Context, path string, m store.Manifest, moved func(int64)) (problem string, err error) {
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return "", fmt.Errorf("look for the folder of the backup: %w", err)
	}
	sum, size, err := sink.HashFile(ctx, path, m.Algo, moved)
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, sink.ErrInUse):
		return "", err
	case errors.Is(err, fs.ErrNotExist):
		return "the file is missing", nil
	case err != nil: // the disk cannot read it back, or nobody knows such a hash
		return err.Error(), nil
	case size != m.Stored:
		return fmt.Sprintf("the file has %d bytes, the manifest says %d", size, m.Stored), nil
	case !strings.EqualFold(sum, m.StoredHash):
		return "the file is not what was received: its " + m.Algo + " hash differs from the manifest's", nil
	}
	return "", nil
}

// Verify looks whether manifest and file of a backup of the catalogue are those that were signed, with one of the keys trusted: the
// signature, the size, and the hash over every byte, which the checks of the format were made with when it came. Errors as of
// [Damage].
func Verify(ctx context.Context, m store.Manifest, trusted []store.PublicKey, moved func(int64)) (problem string, err error) {
	good, path, err := Signed(m, trusted)
	switch {
	case errors.Is(err, fs.ErrPermission), len(trusted) == 0:
		return "", err
	case err != nil:
		if _, e := os.Stat(filepath.Dir(path)); e != nil {
			return "", fmt.Errorf("look for the folder of the backup: %w", e)
		}
		return err.Error(), nil
	case good.Stored != m.Stored || good.StoredHash != m.StoredHash || good.Cluster != m.Cluster || good.Server != m.Server:
		return "the catalogue says something else of it than its signed manifest", nil
	}
	return Damage(ctx, path, good, moved)
}

// oldestLook lists the backups of a cluster that are to be verified, the first first: those whose bytes nobody has looked at for
// longest. One that was found bad is left out: its bytes are the same tomorrow. It is pure; list is newest first.
func oldestLook(list []store.Manifest) []store.Manifest {
	looked := func(m store.Manifest) (at time.Time) {
		at = m.Ended
		if v, ok := m.Verified(); ok {
			at = v.Time
		}
		if d, ok := m.Restored(); ok && d.Time.After(at) {
			at = d.Time
		}
		return at
	}
	out := slices.DeleteFunc(slices.Clone(list), func(m store.Manifest) bool {
		_, bad := m.Fault()
		return bad
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
		return duty.Result{}, err
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
