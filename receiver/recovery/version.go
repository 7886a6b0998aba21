package recovery

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Version is that of a server or of a backup tool, as in 10.11.14.
type Version struct{ Major, Minor, Patch int }

var versionNumber = regexp.MustCompile(`\b(\d+)\.(\d+)\.(\d+)`)

// FindVersion is the first version in a text; ok is false without one.
func FindVersion(text string) (v Version, ok bool) {
	m := versionNumber.FindStringSubmatch(text)
	if m == nil {
		return v, false
	}
	for i, into := range []*int{&v.Major, &v.Minor, &v.Patch} {
		n, err := strconv.Atoi(m[i+1])
		if err != nil {
			return Version{}, false
		}
		*into = n
	}
	return v, true
}

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// ErrVersion says that the tools or the server here are of another series than the backup: its files are not theirs.
var ErrVersion = errors.New("other version")

// Reads reports whether tools and servers of version v can read the files of a server of version of: those of the same series
// can. A note is not empty when they can, but are older. Errors: [ErrVersion].
func (v Version) Reads(of Version) (note string, err error) {
	switch {
	case v.Major != of.Major || v.Minor != of.Minor:
		return "", fmt.Errorf("%w: %s cannot read the files of %s: install %d.%d", ErrVersion, v, of, of.Major, of.Minor)
	case v.Patch < of.Patch:
		return fmt.Sprintf("%s is older than %s, which made the files", v, of), nil
	}
	return "", nil
}

// versionTime bounds the question to a tool for its version.
const versionTime = 10 * time.Second

// Installed is the version of a program on this machine. Errors: [ErrMissing].
func Installed(ctx context.Context, name string) (Version, error) {
	path, err := Look(name)
	if err != nil {
		return Version{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, versionTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--no-defaults", "--version")
	cmd.Env = Environment()
	said, err := cmd.CombinedOutput()
	if v, ok := FindVersion(string(said)); ok {
		return v, nil
	}
	return Version{}, fmt.Errorf("ask %s for its version: it said %q: %w", name, said, errors.Join(err, errors.New("no version in it")))
}

// infoFiles are where the backup tools write what they took; newer ones first.
var infoFiles = []string{"mariadb_backup_info", "xtrabackup_info"}

// origin is the version of the server that a physical backup was taken of, as its files say; ok is false when they do not.
func (c *Copy) origin() (v Version, ok bool) {
	for _, name := range infoFiles {
		f, err := os.Open(filepath.Join(c.Data(), name))
		if err != nil {
			continue
		}
		for sc := bufio.NewScanner(io.LimitReader(f, 1<<20)); sc.Scan() && !ok; {
			if key, value, _ := strings.Cut(sc.Text(), "="); strings.TrimSpace(key) == "server_version" {
				v, ok = FindVersion(value)
			}
		}
		_ = f.Close()
		if ok {
			return v, ok
		}
	}
	return v, false
}

// compare looks whether the tools here are of the series of the server that the backup was taken of.
func (c *Copy) compare(ctx context.Context) error {
	of, ok := c.origin()
	if !ok {
		c.cfg.Line("the backup does not say which version of the server it was taken of")
		return nil
	}
	here, err := Installed(ctx, c.backup.Preparer())
	if err != nil {
		return err
	}
	note, err := here.Reads(of)
	if err != nil {
		return err
	}
	if note != "" {
		c.cfg.Line(c.backup.Preparer() + " " + note)
	}
	return nil
}

// Comparing looks at the version of what was unpacked. Errors: [ErrVersion].
func (c *Copy) Comparing() Phase { return Phase{"compare versions", c.compare} }
