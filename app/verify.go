package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"drydock/bus"
	"drydock/config"
	"drydock/receiver"
	"drydock/receiver/sink"
	"drydock/store"
)

// keysFile holds the public keys that the manifests of this data folder may be signed with, one a line. A key that the bus
// has lost stays: the backups it vouches for are still there.
func keysFile(cfg *config.Config) string { return filepath.Join(cfg.Global.Datadir, "manifest.pub") }

// keepPublicKey adds a key to the file, if it is not there yet.
func keepPublicKey(cfg *config.Config, key store.PublicKey) error {
	path := keysFile(cfg)
	known, err := readKeys(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if slices.ContainsFunc(known, func(k store.PublicKey) bool { return k.String() == key.String() }) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("create data folder: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("keep the public key: %w", err)
	}
	_, err = f.WriteString(key.String() + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("keep the public key in %s: %w", path, err)
	}
	return nil
}

func readKeys(path string) (keys []store.PublicKey, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the public keys: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		key, err := store.ParsePublicKey(line)
		if err != nil {
			return nil, fmt.Errorf("read the public keys in %s: %w", path, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// Found is one backup in the backup folder, as [VerifyBackups] found it.
type Found struct {
	Manifest store.Manifest `json:"manifest"`
	File     string         `json:"file"`              // of the backup, beside its manifest
	Problem  string         `json:"problem,omitempty"` // why it is not what its manifest says; empty when it is
}

// Keys are the public keys that manifests of this installation are trusted with: those of the data folder, or of path.
func Keys(cfg *config.Config, path string) ([]store.PublicKey, error) {
	if path == "" {
		path = keysFile(cfg)
	}
	return readKeys(path)
}

// VerifyBackups looks at every backup in the backup folder that id names (all when it is empty), and needs neither bus nor
// server for it: the signature of the manifest, size and hash of the file. each gets them in the order of their paths. A
// manifest is believed where it stands: the folder may have been copied elsewhere. A file without a manifest is no backup.
func VerifyBackups(ctx context.Context, folder, id string, keys []store.PublicKey, each func(Found)) error {
	return eachManifest(folder, func(found Found, raw []byte) error {
		if id != "" && found.Manifest.ID != id {
			return nil
		}
		if found.Problem == "" {
			found.Problem = problemOf(ctx, found, raw, keys)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		each(found)
		return nil
	})
}

// eachManifest reads the manifests below a folder in the order of their paths. Hidden ones are not finished.
func eachManifest(folder string, each func(found Found, raw []byte) error) error {
	return filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("look through the backups: %w", err)
		}
		if entry.IsDir() || strings.HasPrefix(entry.Name(), ".") || !strings.HasSuffix(entry.Name(), receiver.ManifestSuffix) {
			return nil
		}
		return each(readManifest(path))
	})
}

func readManifest(path string) (found Found, raw []byte) {
	found.File = strings.TrimSuffix(path, receiver.ManifestSuffix)
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, &found.Manifest)
	}
	if err != nil {
		found.Problem = "the manifest cannot be read: " + err.Error()
	}
	return found, raw
}

// problemOf says what is wrong with a backup, empty when nothing is.
func problemOf(ctx context.Context, found Found, raw []byte, keys []store.PublicKey) string {
	m := found.Manifest
	if err := trusted(raw, keys); err != nil {
		return err.Error()
	}
	if filepath.Base(m.Path) != filepath.Base(found.File) {
		return "the manifest is that of " + filepath.Base(m.Path)
	}
	sum, size, err := sink.HashFile(ctx, found.File, m.Algo)
	switch {
	case err != nil:
		return err.Error()
	case size != m.Stored:
		return fmt.Sprintf("the file has %d bytes, the manifest says %d", size, m.Stored)
	case sum != m.StoredHash:
		return "the file is not what was received: its " + m.Algo + " hash differs from the manifest's"
	}
	return ""
}

// trusted is nil when one of the keys vouches for the manifest, and otherwise the most telling of their errors.
func trusted(raw []byte, keys []store.PublicKey) error {
	err := store.ErrOtherKey
	for _, key := range keys {
		e := store.VerifyManifest(raw, key)
		if e == nil {
			return nil
		}
		if !errors.Is(e, store.ErrOtherKey) {
			err = e
		}
	}
	return err
}

// RebuildCatalog fills the catalogue from the manifests in the backup folder: of those that are signed by one of the keys
// and have a file of the right size beside them. It reads no backup and removes nothing. each gets all of them.
func RebuildCatalog(ctx context.Context, conn *bus.Conn, folder string, keys []store.PublicKey, each func(Found)) error {
	catalog := store.NewCatalog(conn)
	return eachManifest(folder, func(found Found, raw []byte) error {
		if found.Problem == "" {
			found.Problem = listable(found, raw, keys)
		}
		if found.Problem == "" {
			found.Manifest.Path = found.File // the folder may have moved
			if err := catalog.Put(ctx, found.Manifest); err != nil {
				return err
			}
		}
		each(found)
		return nil
	})
}

// listable says why a backup cannot be put into the catalogue, empty when it can.
func listable(found Found, raw []byte, keys []store.PublicKey) string {
	if err := trusted(raw, keys); err != nil {
		return err.Error()
	}
	info, err := os.Lstat(found.File)
	if err != nil {
		return err.Error()
	}
	if info.Size() != found.Manifest.Stored {
		return fmt.Sprintf("the file has %d bytes, the manifest says %d", info.Size(), found.Manifest.Stored)
	}
	return ""
}

// BackupFolder is where the backups of a configuration lie.
func BackupFolder(cfg *config.Config) string {
	return filepath.Join(cfg.Global.Datadir, receiver.BackupsFolder)
}
