package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"drydock/bus"
	"drydock/config"
	"drydock/receiver"
	"drydock/receiver/keeper"
	"drydock/receiver/proving"
	"drydock/store"
)

// Found is one backup in the backup folder, as [VerifyBackups] found it.
type Found struct {
	Manifest store.Manifest `json:"manifest"`          // as signed; of one that nobody vouches for, what it claims
	File     string         `json:"file"`              // of the backup, beside its manifest
	Problem  string         `json:"problem,omitempty"` // why it is not what its manifest says; empty when it is
}

// VerifyBackups looks at every backup in the backup folder that id names (all when it is empty), and needs neither bus nor
// server for it: the signature of the manifest, size and hash of the file. each gets them in the order of their paths. A
// manifest is believed where it stands: the folder may have been copied elsewhere. A file without a manifest is no backup,
// and to find none at all is an error: nothing was shown to be well.
func VerifyBackups(ctx context.Context, folder, id string, keys []store.PublicKey, each func(Found)) error {
	any := false
	err := eachManifest(folder, keys, func(found Found) error {
		if id != "" && found.Manifest.ID != id {
			return nil
		}
		if found.Problem == "" {
			found.Problem = damage(ctx, found)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if found.Problem != "" && pruned(found) {
			return nil
		}
		any = true
		each(found)
		return nil
	})
	if err == nil && !any {
		err = noBackup(folder, id)
	}
	return err
}

// pruned reports whether a prune took a backup away while it was looked at: its manifest, which goes last, is gone too.
func pruned(found Found) bool {
	_, file := os.Lstat(found.File)
	_, manifest := os.Lstat(found.File + receiver.ManifestSuffix)
	return errors.Is(file, fs.ErrNotExist) && errors.Is(manifest, fs.ErrNotExist)
}

// noBackup says that a folder does not have the backup of an id, or none when that is empty.
func noBackup(folder, id string) error {
	if id == "" {
		return fmt.Errorf("find no backup in %s", folder)
	}
	return fmt.Errorf("find no backup %s in %s", id, folder)
}

// eachManifest reads the manifests below a folder in the order of their paths. Hidden ones are not finished.
func eachManifest(folder string, keys []store.PublicKey, each func(Found) error) error {
	// With a separator at its end, a link to a folder is entered. The paths keep its name: the receiver knows its folder,
	// and the archive a backup, by the name that is configured.
	root := filepath.Clean(folder) + string(filepath.Separator)
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			found, err := unreadable(root, path, err)
			if err == nil {
				err = each(found)
			}
			return cmp.Or(err, fs.SkipDir)
		}
		if entry.IsDir() || strings.HasPrefix(entry.Name(), ".") || !strings.HasSuffix(entry.Name(), receiver.ManifestSuffix) {
			return nil
		}
		return each(readManifest(path, keys))
	})
}

// unreadable makes of an error of the walk a row for a folder that may not be read, as lost+found: the others must be looked
// at all the same. Any other error ends the walk, and so does one about the root.
func unreadable(root, path string, err error) (Found, error) {
	if path == root || !errors.Is(err, fs.ErrPermission) {
		return Found{}, fmt.Errorf("look through the backups: %w", err)
	}
	return Found{File: path, Problem: "the folder cannot be read: " + err.Error()}, nil
}

// readManifest is the backup of a manifest file. Without a problem, one of the keys vouches for its manifest, and it stands
// beside the file that it was made for: only what was signed is believed.
func readManifest(path string, keys []store.PublicKey) Found {
	found := Found{File: strings.TrimSuffix(path, receiver.ManifestSuffix)}
	raw, err := os.ReadFile(path)
	if err != nil {
		found.Problem = "the manifest cannot be read: " + err.Error()
		return found
	}
	if found.Manifest, err = trusted(raw, keys); err != nil {
		found.Manifest, found.Problem = claimed(raw, err)
		return found
	}
	if name := filepath.Base(found.Manifest.Path); name != filepath.Base(found.File) {
		found.Problem = "the manifest is that of " + name
	}
	return found
}

// claimed is what a manifest that is not trusted says, to name it in a list, and why it is not.
func claimed(raw []byte, why error) (m store.Manifest, problem string) {
	if err := json.Unmarshal(raw, &m); err != nil {
		return store.Manifest{}, "the manifest cannot be read: " + err.Error()
	}
	m.Archives, m.Drills, m.Verifications, m.Restores = nil, nil, nil, nil
	return m, why.Error()
}

// trusted is the manifest when one of the keys vouches for it, and otherwise the most telling of their errors.
func trusted(raw []byte, keys []store.PublicKey) (store.Manifest, error) {
	err := store.ErrOtherKey
	for _, key := range keys {
		m, e := store.VerifyManifest(raw, key)
		if e == nil {
			return m, nil
		}
		if !errors.Is(e, store.ErrOtherKey) {
			err = e
		}
	}
	return store.Manifest{}, err
}

// damage says how the file of a backup differs from its manifest, or why it cannot be read; empty when it is as it should be.
func damage(ctx context.Context, found Found) string {
	problem, err := proving.Damage(ctx, found.File, found.Manifest, nil)
	if err != nil {
		return err.Error()
	}
	return problem
}

func otherSize(size int64, m store.Manifest) string {
	return fmt.Sprintf("the file has %d bytes, the manifest says %d", size, m.Stored)
}

// RebuildCatalog fills the catalogue from the manifests in the backup folder: of those that are signed by one of the keys
// and have their file, of the right size, beside them. Pins, drills and archives come from the notes beside them, if those are
// signed, too; what the catalogue knows already stays. It reads no backup and removes nothing. each gets all of them. As in
// [VerifyBackups], to find none is an error.
func RebuildCatalog(ctx context.Context, conn *bus.Conn, folder string, keys []store.PublicKey, each func(Found)) error {
	folder, err := filepath.Abs(folder) // who reads the catalogue works elsewhere
	if err != nil {
		return fmt.Errorf("find the backups: %w", err)
	}
	catalog, any := store.NewCatalog(conn), false
	err = eachManifest(folder, keys, func(found Found) error {
		any = true
		if found.Problem == "" {
			found.Problem = unlisted(found)
		}
		if found.Problem == "" {
			found.Manifest.Path = found.File // the folder may have moved
			notes, problem := readNotes(found, keys)
			if err := catalog.Found(ctx, found.Manifest, notes); err != nil {
				return err
			}
			found.Problem = problem
		}
		each(found)
		return nil
	})
	if err == nil && !any {
		err = noBackup(folder, "")
	}
	return err
}

// readNotes are the notes beside a backup, or none and what is wrong with them.
func readNotes(found Found, keys []store.PublicKey) (n store.Notes, problem string) {
	raw, err := os.ReadFile(found.File + keeper.NotesSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return n, ""
	}
	if err == nil {
		err = store.ErrOtherKey
		for _, key := range keys {
			some, e := store.VerifyNotes(raw, key, found.Manifest)
			if e == nil {
				return some, ""
			}
			if !errors.Is(e, store.ErrOtherKey) {
				err = e
			}
		}
	}
	return store.Notes{}, "listed without its notes (pin, drills, archives): " + err.Error()
}

// unlisted says why the file of a backup cannot be put into the catalogue, empty when it can.
func unlisted(found Found) string {
	info, err := os.Lstat(found.File)
	switch {
	case err != nil:
		return err.Error()
	case !info.Mode().IsRegular():
		return "the backup is not a file"
	case info.Size() != found.Manifest.Stored:
		return otherSize(info.Size(), found.Manifest)
	}
	return ""
}

// BackupFolder is where the backups of a configuration lie.
func BackupFolder(cfg *config.Config) string {
	return filepath.Join(cfg.Global.Datadir, receiver.BackupsFolder)
}
