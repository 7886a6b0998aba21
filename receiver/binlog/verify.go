package binlog

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"

	"drydock/receiver/sink"
	"drydock/store"
)

// Found is a segment in a folder, as [Verify] found it.
type Found struct {
	Segment store.Segment `json:"segment"` // as signed; of one that nobody vouches for, what it claims
	File    string        `json:"file"`
	Problem string        `json:"problem,omitempty"` // why it is not what was stored; empty when it is
	// Read says that every event in it was read. Of an encrypted one without a key only the hash of the file is known.
	Read bool `json:"read"`
}

// Verify looks at every segment below a folder, and needs neither bus nor server for it: signature, size and hash, and with what
// opens them every event. each gets them in the order of their paths. Continuity is [store.BinlogGaps] of what is whole.
func Verify(ctx context.Context, folder string, keys []store.PublicKey, identities []age.Identity, each func(Found)) error {
	return walkSegments(folder, func(path string) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		each(verify(ctx, path, keys, identities))
		return nil
	})
}

func verify(ctx context.Context, path string, keys []store.PublicKey, identities []age.Identity) Found {
	found := Found{File: path}
	raw, err := os.ReadFile(path + ManifestSuffix)
	if err != nil {
		found.Problem = "the manifest cannot be read: " + err.Error()
		return found
	}
	if found.Segment, err = trusted(raw, keys); err != nil {
		_ = json.Unmarshal(raw, &found.Segment) // what it claims, to name it
		found.Problem = err.Error()
		return found
	}
	if found.Segment.Name() != filepath.Base(path) {
		found.Problem = "the manifest is that of " + found.Segment.Name()
		return found
	}
	here := found.Segment
	here.Path = path
	if found.Problem = wrongSize(here); found.Problem != "" {
		return found
	}
	err = readSegment(ctx, here, identities, func(event, int64) error { return nil })
	found.Read = err == nil
	if errors.Is(err, sink.ErrIdentity) {
		err = hashOnly(here)
	}
	if err != nil {
		found.Problem = err.Error()
	}
	return found
}

// trusted is the segment when one of the keys vouches for it.
func trusted(raw []byte, keys []store.PublicKey) (s store.Segment, err error) {
	err = store.ErrOtherKey
	for _, k := range keys {
		if s, err = store.VerifySegment(raw, k); !errors.Is(err, store.ErrOtherKey) {
			return s, err
		}
	}
	return s, err
}

// wrongSize says how the size of a segment's file differs from what was stored. One that was open may have grown since.
func wrongSize(s store.Segment) string {
	info, err := os.Stat(s.Path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "the file is missing"
	case err != nil:
		return err.Error()
	case info.Size() < s.Stored || info.Size() > s.Stored && !s.Open:
		return "the file has another size than was stored"
	}
	return ""
}

// hashOnly compares the file with its hash, without opening what is encrypted.
func hashOnly(s store.Segment) error {
	file, err := os.Open(s.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	sum, err := prefixHash(file, s.Stored)
	if err != nil {
		return err
	}
	if !strings.EqualFold(sum, s.Hash) {
		return errors.New("the file is not what was stored: its hash differs from the manifest's")
	}
	return nil
}
