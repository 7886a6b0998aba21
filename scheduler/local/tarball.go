package local

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"drydock/dump"
)

// writeTar writes the files of a folder as a tar archive whose entries have no folder in their names. mydumper's metadata
// come last, as they were written: a reader of half an archive has none.
func writeTar(ctx context.Context, to io.Writer, dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read the dump: %w", err)
	}
	out := tar.NewWriter(to)
	last := -1
	for i, f := range files {
		if f.Name() == dump.MetadataFile {
			last = i
			continue
		}
		if err := writeEntry(ctx, out, filepath.Join(dir, f.Name())); err != nil {
			return err
		}
	}
	if last >= 0 {
		if err := writeEntry(ctx, out, filepath.Join(dir, dump.MetadataFile)); err != nil {
			return err
		}
	}
	return out.Close()
}

func writeEntry(ctx context.Context, out *tar.Writer, path string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read the dump: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read the dump: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("read the dump: %s is not a file", filepath.Base(path))
	}
	head := &tar.Header{Typeflag: tar.TypeReg, Name: filepath.Base(path), Size: info.Size(), Mode: 0o600, ModTime: info.ModTime(), Format: tar.FormatPAX}
	if err := out.WriteHeader(head); err != nil {
		return err
	}
	_, err = io.Copy(out, f)
	var broken *sendError
	if err != nil && !errors.As(err, &broken) {
		return fmt.Errorf("read the dump: %w", err)
	}
	return err
}
