package local

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/store"
)

func TestAStreamIsAtItsEndOnlyWithEveryByteAndTheRightHash(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte("backup"))
	good := store.Manifest{ID: "x", Size: 6, Algo: "sha256", Hash: hex.EncodeToString(sum[:])}
	for _, c := range []struct {
		sent, want string
	}{
		{"backup", ""},
		{"backuq", "is damaged"},
		{"backu", "ended after 5 of 6 bytes"},
		{"", "ended after 0 of 6 bytes"},
		{"backup!", "is longer than the 6 bytes"},
	} {
		here, there := loopback(t)
		go func() {
			_, _ = io.WriteString(there, c.sent) // the reader may have enough before
			_ = there.Close()
		}()
		hash, err := hashOf(good.Algo)
		if err != nil {
			t.Fatal(err)
		}
		f := &inflow{conn: here, idle: 10 * time.Second, sum: hash, want: good}
		_, err = io.ReadAll(f)
		f.close()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: %v", c.sent, err)
		}
	}
}

// loopback is both ends of a connection. A net.Pipe tells a reader of its end before what was written.
func loopback(t *testing.T) (here, there net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if there, err = net.DialTimeout("tcp", ln.Addr().String(), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if here, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = here.Close()
		_ = there.Close()
	})
	return here, there
}

func TestOnlyTheStreamThatWasAskedForIsTaken(t *testing.T) {
	t.Parallel()
	for sent, want := range map[string]bool{"drydock-backup abc\n": true, "drydock-backup abd\n": false, "GET / HTTP/1.1\r\n\r\n    ": false, "short": false} {
		here, there := net.Pipe()
		go func() {
			_, _ = io.WriteString(there, sent) // what is too long is not read
			_ = there.Close()
		}()
		if got := announced(here, "drydock-backup abc\n"); got != want {
			t.Errorf("%q: %v", sent, got)
		}
		_ = here.Close()
	}
}

func TestAnArchiveIsUnpackedOnlyIntoItsFolder(t *testing.T) {
	t.Parallel()
	archive := func(heads ...tar.Header) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range heads {
			h.Mode = 0o777
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(make([]byte, h.Size)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	file := func(name string, size int64) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size}
	}
	meta := file("metadata", 10)
	for name, c := range map[string]struct {
		archive []byte
		want    string
	}{
		"good":         {archive(file("shop.a.sql", 5), file("./shop.b.sql", 5), file("mysql.user.sql", 5), file("replication_manager_schema.jobs.sql", 5), meta), ""},
		"above":        {archive(file("../evil", 1), meta), "no plain file"},
		"absolute":     {archive(file("/tmp/evil", 1), meta), "no plain file"},
		"folder":       {archive(file("a/b", 1), meta), "no plain file"},
		"hidden":       {archive(file(".my.cnf", 1), meta), "no plain file"},
		"symlink":      {archive(tar.Header{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "/etc/passwd"}, meta), "no plain file"},
		"hard link":    {archive(tar.Header{Typeflag: tar.TypeLink, Name: "link", Linkname: "metadata"}, meta), "no plain file"},
		"device":       {archive(tar.Header{Typeflag: tar.TypeChar, Name: "null"}, meta), "no plain file"},
		"twice":        {archive(meta, meta), "file exists"},
		"large":        {archive(file("shop.a.sql", 1<<20), meta), "larger than the backup"},
		"no metadata":  {archive(file("shop.a.sql", 5)), "metadata"},
		"no archive":   {[]byte(strings.Repeat("x", 2000)), "unpack the backup"},
		"cut archives": {archive(file("shop.a.sql", 5000), meta)[:3000], "unpack the backup"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := filepath.Join(t.TempDir(), "dump")
			err := unpack(folder, bytes.NewReader(c.archive), 10_000)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v", err)
			}
			if name != "good" {
				return
			}
			left, err := os.ReadDir(folder)
			if err != nil || len(left) != 3 { // the server's own tables stay out
				t.Errorf("%v, %v", left, err)
			}
			for _, e := range left {
				if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%s: %v, %v", e.Name(), info, err)
				}
			}
		})
	}
}
