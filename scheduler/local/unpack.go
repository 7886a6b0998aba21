package local

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// unpack writes the files of a tar archive into a new folder. The archive is that of a folder of files: anything else in
// it, or more than limit bytes, is an error. It reads to the end of from, which proves the stream.
//
// What belongs to a server itself is left out: its system tables, and the jobs of its script.
func unpack(folder string, from io.Reader, limit int64) error {
	if err := os.Mkdir(folder, 0o700); err != nil {
		return fmt.Errorf("make a folder for the backup: %w", err)
	}
	in := tar.NewReader(from)
	var size int64
	for {
		head, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("unpack the backup: %w", err)
		}
		name := path.Clean(head.Name)
		switch {
		case head.Typeflag == tar.TypeDir && name == ".":
			continue
		case head.Typeflag != tar.TypeReg, name != filepath.Base(name), name[0] == '.', strings.ContainsAny(name, "/\\\x00"):
			return fmt.Errorf("unpack the backup: %q is no plain file of a dump", head.Name)
		}
		if size += head.Size; size > limit {
			return fmt.Errorf("unpack the backup: its files are larger than the backup, %d bytes", limit)
		}
		if serversOwn(name) {
			continue
		}
		if err := writeFile(filepath.Join(folder, name), in); err != nil {
			return fmt.Errorf("unpack the backup: %w", err)
		}
	}
	if _, err := io.Copy(io.Discard, from); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(folder, "metadata")); err != nil {
		return errors.New("unpack the backup: mydumper's metadata are not in it")
	}
	return nil
}

// serversOwn tells the files of mydumper about schemas that a server does not share.
func serversOwn(name string) bool {
	return slices.ContainsFunc([]string{"mysql", "sys", jobsSchema}, func(schema string) bool {
		return strings.HasPrefix(name, schema+".") || strings.HasPrefix(name, schema+"-schema-")
	})
}

func writeFile(path string, from io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Close())
}
