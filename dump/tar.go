package dump

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
)

// MetadataFile is the file that mydumper writes last.
const MetadataFile = "metadata"

// maxMetadata bounds what is read of it.
const maxMetadata = 64 << 20

// Tar is an [io.Writer] that reads the tar of a folder made by mydumper. Write never fails; the defect found is kept. It
// reads in a goroutine of its own, which ends with Close: Close must be called. Not safe for concurrent use. See [NewTar].
type Tar struct {
	in   *io.PipeWriter
	done chan struct{} // closed by the goroutine when it has ended; what follows is its own until then
	err  error

	meta    Metadata
	whole   bool            // a metadata file was read to its end
	schemas []string        // tables and views, as in the file names
	views   map[string]bool // of them
	rows    map[string]bool // tables that have a file for their rows
}

// NewTar begins to read.
func NewTar() *Tar {
	from, to := io.Pipe()
	t := &Tar{in: to, done: make(chan struct{}), views: map[string]bool{}, rows: map[string]bool{}}
	go func() {
		defer close(t.done)
		t.err = t.read(from)
		_, _ = io.Copy(io.Discard, from) // only ends with the pipe: the writer is never held up
	}()
	return t
}

// Write takes in the next part of the archive.
func (t *Tar) Write(b []byte) (int, error) {
	_, _ = t.in.Write(b) // the other side reads to the end
	return len(b), nil
}

// Close judges the archive after its last byte. It may be called again. Errors: [ErrTruncated], [ErrEmpty], [ErrMissing].
func (t *Tar) Close() error {
	_ = t.in.Close() // never fails
	<-t.done
	if t.err != nil {
		return t.err
	}
	switch {
	case !t.whole:
		return fmt.Errorf("%w: the tool's file %q is not in it", ErrTruncated, MetadataFile)
	case !t.meta.Finished:
		return fmt.Errorf("%w: its %s has no line %q", ErrTruncated, MetadataFile, "Finished dump at")
	case len(t.schemas) == 0:
		return fmt.Errorf("%w: there is no table in it", ErrEmpty)
	}
	for _, name := range t.schemas {
		if !t.views[name] && !t.rows[name] && !t.meta.empty[name] {
			return fmt.Errorf("%w: table %s has no file with its rows", ErrMissing, name)
		}
	}
	return nil
}

// Opaque is always empty: every archive can be looked at.
func (t *Tar) Opaque() string { return "" }

// Position is what the metadata say, after Close.
func (t *Tar) Position() Position { return t.meta.Position() }

// Tool is the program, after Close; its metadata name no version.
func (t *Tar) Tool() string { return "mydumper" }

func (t *Tar) read(from io.Reader) error {
	end := &trailer{from: from}
	archive := tar.NewReader(end)
	for {
		head, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF):
			if _, err := io.Copy(io.Discard, end); err != nil {
				return fmt.Errorf("%w: %w", ErrTruncated, err)
			}
			if end.zeros < 1024 { // two blocks of zeros; without them the end is only where the stream was cut
				return fmt.Errorf("%w: the archive has no end", ErrTruncated)
			}
			return nil
		case err != nil:
			return fmt.Errorf("%w: read the archive: %w", ErrTruncated, err)
		}
		if err := t.entry(head, archive); err != nil {
			return err
		}
	}
}

var (
	schemaFile = regexp.MustCompile(`^(.+)-schema\.sql(?:\.gz|\.zst)?$`)
	viewFile   = regexp.MustCompile(`^(.+)-schema-view\.sql(?:\.gz|\.zst)?$`)
	rowsFile   = regexp.MustCompile(`^(.+)\.(?:sql|dat)(?:\.gz|\.zst)?$`)
	chunk      = regexp.MustCompile(`^(.+)\.\d+$`) // one of several files with the rows of a table
)

func (t *Tar) entry(head *tar.Header, body io.Reader) error {
	name := path.Clean(head.Name)
	switch {
	case head.Typeflag == tar.TypeDir:
		return nil
	case head.Typeflag != tar.TypeReg || strings.Contains(name, "/"):
		return fmt.Errorf("%w: %q does not belong into a dump", ErrMissing, head.Name)
	case name == MetadataFile:
		return t.metadata(body)
	}
	if m := viewFile.FindStringSubmatch(name); m != nil {
		t.views[m[1]] = true
	} else if m := schemaFile.FindStringSubmatch(name); m != nil {
		t.schemas = append(t.schemas, m[1])
	} else if m := rowsFile.FindStringSubmatch(name); m != nil {
		// A table may be called 5, too.
		for ; m != nil; m = chunk.FindStringSubmatch(m[1]) {
			t.rows[m[1]] = true
		}
	}
	return nil
}

func (t *Tar) metadata(body io.Reader) error {
	lines := bufio.NewScanner(io.LimitReader(body, maxMetadata))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		t.meta.Line(lines.Text())
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%w: read %s: %w", ErrTruncated, MetadataFile, err)
	}
	t.whole = true
	return nil
}

// trailer counts the zeros that a stream ends with.
type trailer struct {
	from  io.Reader
	zeros int64
}

func (r *trailer) Read(b []byte) (int, error) {
	n, err := r.from.Read(b)
	for i := n - 1; i >= 0; i-- {
		if b[i] != 0 {
			r.zeros = int64(n - 1 - i)
			return n, err
		}
	}
	r.zeros += int64(n)
	return n, err
}
