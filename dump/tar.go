package dump

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
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

	meta      Metadata
	whole     bool             // a metadata file was read to its end
	schemas   []string         // tables and views, as in the file names
	views     map[string]bool  // of them
	databases map[string]bool  // that have a file of their own
	triggers  []string         // tables that have a file for their triggers
	rows      map[string]bool  // tables that have a file for their rows
	parts     map[string][]int // numbers of the files with the rows of a table
	files     []string         // with rows, or with something newer versions write, without their suffixes
}

// NewTar begins to read.
func NewTar() *Tar {
	from, to := io.Pipe()
	t := &Tar{in: to, done: make(chan struct{}), views: map[string]bool{}, databases: map[string]bool{}, rows: map[string]bool{},
		parts: map[string][]int{}}
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
	return t.missing()
}

// missing compares the list of the files with itself: what one of them implies must be there. That the last of the numbered
// files with the rows of a table is gone does not show.
func (t *Tar) missing() error {
	known := map[string]bool{}
	for _, name := range t.schemas {
		known[name] = true
		if !t.views[name] && !t.rows[name] && !t.meta.empty[name] {
			return fmt.Errorf("%w: table %s has no file with its rows", ErrMissing, name)
		}
		if len(t.databases) > 0 && !slices.ContainsFunc(prefixes(name), func(db string) bool { return t.databases[db] }) {
			return fmt.Errorf("%w: the database of table %s has no file with its schema", ErrMissing, name)
		}
		if n := t.parts[name]; t.meta.old && len(n) > 0 && (slices.Min(n) > 1 || slices.Max(n)-slices.Min(n)+1 != len(n)) {
			return fmt.Errorf("%w: of the files with the rows of table %s there are %d, numbered up to %d", ErrMissing, name, len(n), slices.Max(n))
		}
	}
	for _, name := range t.triggers {
		if !known[name] && !known[name+"-schema-triggers"] {
			return fmt.Errorf("%w: there are triggers of table %s, which has no file with its schema", ErrMissing, name)
		}
	}
	for _, file := range t.files {
		if !slices.ContainsFunc(tablesOf(file), func(name string) bool { return known[name] }) && !otherSchema.MatchString(file) {
			return fmt.Errorf("%w: the rows in %s are of a table that has no file with its schema", ErrMissing, file)
		}
	}
	return nil
}

// prefixes are the names of databases that a table's name in the file names can begin with.
func prefixes(name string) (out []string) {
	for i, c := range name {
		if c == '.' {
			out = append(out, name[:i])
		}
	}
	return out
}

// tablesOf are the tables whose rows a file can have by its name: a table may be called 5, too.
func tablesOf(file string) (out []string) {
	for m := []string{"", file}; m != nil; m = chunk.FindStringSubmatch(m[1]) {
		out = append(out, m[1])
	}
	return out
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
			if end.size%512 != 0 {
				return fmt.Errorf("%w: the archive ends in the middle of a block", ErrTruncated)
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
	schemaFile   = regexp.MustCompile(`^(.+)-schema\.sql(?:\.gz|\.zst)?$`)
	viewFile     = regexp.MustCompile(`^(.+)-schema-view\.sql(?:\.gz|\.zst)?$`)
	databaseFile = regexp.MustCompile(`^(.+)-schema-create\.sql(?:\.gz|\.zst)?$`)
	triggersFile = regexp.MustCompile(`^(.+)-schema-triggers\.sql(?:\.gz|\.zst)?$`)
	rowsFile     = regexp.MustCompile(`^(.+)\.(?:sql|dat)(?:\.gz|\.zst)?$`)
	otherSchema  = regexp.MustCompile(`-schema-[a-z]+$`) // of anything but a table
	chunk        = regexp.MustCompile(`^(.+)\.\d+$`)     // one of several files with the rows of a table
	numbered     = regexp.MustCompile(`^(.+)\.(\d{5})$`) // such a file of versions that number them one by one
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
	t.list(name)
	return wholeFile(name, body)
}

// list notes what a file is for. A table may be called like the suffix of one.
func (t *Tar) list(name string) {
	if m := databaseFile.FindStringSubmatch(name); m != nil {
		t.databases[m[1]] = true
	} else if m := triggersFile.FindStringSubmatch(name); m != nil {
		t.triggers = append(t.triggers, m[1])
	}
	if m := viewFile.FindStringSubmatch(name); m != nil {
		t.views[m[1]] = true
	} else if m := schemaFile.FindStringSubmatch(name); m != nil {
		t.schemas = append(t.schemas, m[1])
	} else if m := rowsFile.FindStringSubmatch(name); m != nil {
		t.files = append(t.files, m[1])
		for _, table := range tablesOf(m[1]) {
			t.rows[table] = true
		}
		if n := numbered.FindStringSubmatch(m[1]); n != nil {
			i, _ := strconv.Atoi(n[2]) // five digits
			t.parts[n[1]] = append(t.parts[n[1]], i)
		}
	}
}

// wholeFile checks the end of one file of the dump: the trailer of its compression, and that SQL ends with a statement.
func wholeFile(name string, body io.Reader) error {
	broken := func(err error) error { return fmt.Errorf("%w: read %s: %w", ErrTruncated, name, err) }
	switch path.Ext(name) {
	case ".gz":
		z, err := gzip.NewReader(body)
		if err != nil {
			return broken(err)
		}
		body = z
	case ".zst":
		z, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxWindow))
		if err != nil {
			return broken(err)
		}
		defer z.Close()
		body = z
	}
	var end lastByte
	if _, err := io.Copy(&end, body); err != nil {
		return broken(err)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(name, ".gz"), ".zst")
	if strings.HasSuffix(text, ".sql") && !otherSchema.MatchString(strings.TrimSuffix(text, ".sql")) && end != 0 && end != ';' {
		return fmt.Errorf("%w: %s ends in the middle of a statement", ErrTruncated, name)
	}
	return nil
}

// maxWindow bounds the memory for a compressed file, in bytes.
const maxWindow = 128 << 20

// lastByte is an [io.Writer] that keeps the last byte that is no white space, 0 when there is none.
type lastByte byte

func (l *lastByte) Write(b []byte) (int, error) {
	if text := bytes.TrimRight(b, " \t\r\n"); len(text) > 0 {
		*l = lastByte(text[len(text)-1])
	}
	return len(b), nil
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

// trailer counts the bytes of a stream, and the zeros that it ends with.
type trailer struct {
	from  io.Reader
	size  int64
	zeros int64
}

func (r *trailer) Read(b []byte) (int, error) {
	n, err := r.from.Read(b)
	r.size += int64(n)
	for i := n - 1; i >= 0; i-- {
		if b[i] != 0 {
			r.zeros = int64(n - 1 - i)
			return n, err
		}
	}
	r.zeros += int64(n)
	return n, err
}
