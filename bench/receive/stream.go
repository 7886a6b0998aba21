package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"drydock/internal/mariadbd"
)

// stream is a file of which the first size bytes are sent.
type stream struct {
	path   string
	size   int64
	format bool // all of it is a whole stream of mariadb-backup
}

// part is the beginning of a stream.
func (s stream) part(size int64) stream { return stream{path: s.path, size: size} }

// backupStream takes a real backup, of about size bytes and not less, from a server that is started for it.
func backupStream(ctx context.Context, path string, size int64) (stream, error) {
	dir := path + ".db"
	defer os.RemoveAll(dir)
	m, err := mariadbd.Start(ctx, mariadbd.Options{Dir: dir, Password: "bench", Extra: []string{
		"innodb_flush_log_at_trx_commit=0", "innodb_doublewrite=0", "innodb_buffer_pool_size=512M", "innodb_log_file_size=256M",
	}})
	if err != nil {
		return stream{}, err
	}
	defer func() { _ = m.Kill() }()
	// Pages are not full of what is written first, and there are indexes: more arrives than this.
	if err := mariadbd.Generate(ctx, m, size*4/5, nil); err != nil {
		return stream{}, err
	}
	out, err := os.Create(path)
	if err != nil {
		return stream{}, err
	}
	defer out.Close()
	var said strings.Builder
	cmd := exec.CommandContext(ctx, "mariadb-backup", "--defaults-file="+m.ConfigFile(), "--backup", "--stream=xbstream",
		"--target-dir="+filepath.Join(dir, "backup"), "--user="+m.User(), "--password="+m.Password(), "--socket="+m.Socket())
	cmd.Stdout, cmd.Stderr = out, &said
	if err := cmd.Run(); err != nil {
		return stream{}, fmt.Errorf("%w: %s", err, said.String())
	}
	s, err := measured(out, true)
	if err == nil && s.size < size {
		err = fmt.Errorf("it has %d bytes, %d are wanted", s.size, size)
	}
	return s, err
}

// noiseStream writes bytes that nothing compresses.
func noiseStream(path string, size int64) (stream, error) {
	f, err := os.Create(path)
	if err != nil {
		return stream{}, err
	}
	defer f.Close()
	if _, err := io.CopyN(f, rand.Reader, size); err != nil {
		return stream{}, err
	}
	return measured(f, false)
}

// measured is a stream that was written to its end. It is synced, so that writing it out does not disturb the first round.
func measured(f *os.File, format bool) (stream, error) {
	info, err := f.Stat()
	if err != nil {
		return stream{}, err
	}
	return stream{f.Name(), info.Size(), format}, f.Sync()
}

// sender sends a stream to an address.
type sender func(ctx context.Context, s stream, addr string) error

// sendFile is as fast as one can be: the kernel sends the file.
func sendFile(ctx context.Context, s stream, addr string) error {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	n, err := io.Copy(conn, io.LimitReader(f, s.size)) // sendfile(2)
	if err == nil && n != s.size {
		err = errors.New("stream is shorter than it was")
	}
	return err
}

// sendSocat is what the scripts on the database hosts do. It sends whole files only.
func sendSocat(ctx context.Context, s stream, addr string) error {
	out, err := exec.CommandContext(ctx, "socat", "-u", "FILE:"+s.path, "TCP:"+addr).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
