package keeper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"drydock/bus"
	"drydock/durable"
	"drydock/receiver"
	"drydock/store"
)

// mirror writes what the catalogue knows beyond the manifests of our backups beside them, at the start for all and then with
// each change, until ctx ends. The catalogue can be filled again from the files alone.
func (k *Keeper) mirror(ctx context.Context) error {
	return bus.Follow(ctx, k.conn, bus.StreamCatalog, bus.AllCatalog, bus.From{LastPerSubject: true}, func(_ bus.Meta, m store.Manifest) error {
		if m.Receiver != k.cfg.Name {
			return nil
		}
		folder, safe := receiver.BackupsOf(k.cfg.DataDir, m.Cluster, m.Server)
		if !safe || !inFolder(m.Path, folder) {
			return nil
		}
		k.files.Lock()
		defer k.files.Unlock()
		if _, err := os.Lstat(m.Path); err != nil {
			return nil // notes without a backup are nothing
		}
		more, err := k.learn(ctx, m)
		if err == nil && !more { // else the catalogue changes, and comes here again
			err = k.writeNotes(m)
		}
		if err != nil {
			k.cfg.Log.Warn("write the notes beside a backup", "cluster", m.Cluster, "server", m.Server, "backup", m.ID, "err", err)
		}
		return nil
	}, nil)
}

// learn tells the catalogue of a pin, of drills and of verifications that only the notes beside a backup know: it may be an older one that was got
// back. Notes that nobody vouches for stay as they are. The caller holds files.
func (k *Keeper) learn(ctx context.Context, m store.Manifest) (more bool, err error) {
	n, err := k.notesBeside(m)
	if err != nil || !m.Lacks(n) {
		return false, err
	}
	return true, k.catalog.Found(ctx, m, store.Notes{ID: n.ID, Pin: n.Pin, Drills: n.Drills, Verifications: n.Verifications})
}

// notesBeside are the notes beside a backup, which one of the keys vouches for; the zero value when there are none.
func (k *Keeper) notesBeside(m store.Manifest) (n store.Notes, err error) {
	path := m.Path + NotesSuffix
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	if err == nil {
		err = store.ErrOtherKey
		for _, key := range k.cfg.Keys {
			if n, err = store.VerifyNotes(raw, key, m); !errors.Is(err, store.ErrOtherKey) {
				break
			}
		}
	}
	if err != nil {
		return store.Notes{}, fmt.Errorf("the notes %s are not to be trusted and stay: %w; trust their key, or delete them", path, err)
	}
	return n, nil
}

// writeNotes replaces the notes beside a backup in one step, durably, unless they say the same already. The caller holds files.
func (k *Keeper) writeNotes(m store.Manifest) error {
	n, any := store.NotesOf(m)
	path := m.Path + NotesSuffix
	was, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read notes of %s: %w", m.ID, err)
	}
	if !any && was == nil {
		return nil
	}
	if n, err = k.cfg.Sign(n); err != nil {
		return err
	}
	data, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return fmt.Errorf("encode notes of %s: %w", m.ID, err)
	}
	if data = append(data, '\n'); bytes.Equal(data, was) {
		return nil
	}
	dir, name := filepath.Split(path)
	draft := filepath.Join(dir, "."+name+draftSuffix)
	if err := durable.ReplaceBy(draft, path, data); err != nil {
		return fmt.Errorf("write notes of %s: %w", m.ID, err)
	}
	return nil
}
