package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"drydock/config"
	"drydock/durable"
	"drydock/store"
)

// keysFile holds the public keys that the manifests of this data folder may be signed with, one a line. A key that the bus
// has lost stays: the backups it vouches for are still there.
func keysFile(cfg *config.Config) string { return filepath.Join(cfg.Global.Datadir, "manifest.pub") }

// Keys are the public keys that manifests of this installation are trusted with: those of the data folder, or of path. A
// line that is no key is an error in path, which somebody named; in the data folder warn gets it, and the others count.
func Keys(cfg *config.Config, path string, warn func(problem string)) ([]store.PublicKey, error) {
	named := path != ""
	if !named {
		path = keysFile(cfg)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the public keys: %w", err)
	}
	keys, problems := parseKeys(string(text))
	for _, problem := range problems {
		if named {
			return nil, fmt.Errorf("read the public keys in %s: %s", path, problem)
		}
		warn(path + ": " + problem)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("read the public keys: %s has none, one a line", path)
	}
	return keys, nil
}

// keepPublicKey adds a key to the file, if it is not there yet. Lines that are no keys stay as they are: they must not keep
// the receiver from starting, and are not ours to remove; warn gets what is wrong with them.
func keepPublicKey(cfg *config.Config, key store.PublicKey, warn func(problem string)) error {
	path := keysFile(cfg)
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the public keys: %w", err)
	}
	known, problems := parseKeys(string(text))
	for _, problem := range problems {
		warn(path + ": " + problem)
	}
	if slices.ContainsFunc(known, func(k store.PublicKey) bool { return k.String() == key.String() }) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("create data folder: %w", err)
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	if err := durable.Replace(path, []byte(string(text)+key.String()+"\n")); err != nil {
		return fmt.Errorf("keep the public key in %s: %w", path, err)
	}
	return nil
}

// parseKeys reads public keys, one a line, and says what is wrong with the lines that are something else.
func parseKeys(text string) (keys []store.PublicKey, problems []string) {
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		switch key, err := store.ParsePublicKey(line); {
		case err == nil:
			keys = append(keys, key)
		case glued(line):
			problems = append(problems, fmt.Sprintf("line %d has several public keys and counts as none: put each on a line of its own", n))
		default:
			problems = append(problems, fmt.Sprintf("line %d is not a public key: want 44 characters as `drydock backups key` prints them", n))
		}
	}
	return keys, problems
}

// glued tells that a line is keys one after the other: a line break was lost.
func glued(line string) bool {
	const width = 44 // characters of a key
	line = strings.Join(strings.Fields(line), "")
	if len(line) < 2*width || len(line)%width != 0 {
		return false
	}
	for ; line != ""; line = line[width:] {
		if _, err := store.ParsePublicKey(line[:width]); err != nil {
			return false
		}
	}
	return true
}
