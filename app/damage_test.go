package app

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"drydock/dump"
	"drydock/internal/backuptest"
	"drydock/internal/bustest"
	"drydock/internal/damagetest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/job"
	"drydock/receiver/sink"
	"drydock/xbstream"
)

// realBackups takes a backup of each kind from one server: a physical stream, the text of a dump, the tar of mydumper's folder.
func realBackups(t *testing.T) map[job.Format][]byte {
	t.Helper()
	m := mariadbdtest.Start(t, mariadbd.Options{Password: "secret", LogBin: true, Extra: []string{"innodb_undo_tablespaces=0"}})
	if err := mariadbd.Generate(t.Context(), m, 1<<20, nil); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) []byte {
		out, err := exec.CommandContext(bustest.Context(t), name, args...).Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return out
	}
	login := []string{"--socket=" + m.Socket(), "--user=" + m.User(), "--password=" + m.Password()}
	dir := t.TempDir()
	backuptest.MyDumper(t, dir, append(login, "--database=shop", "--build-empty-files", "--threads=1")...)
	return map[job.Format][]byte{
		job.XBStream: run("mariadb-backup", append([]string{"--defaults-file=" + m.ConfigFile(), "--backup", "--stream=xbstream", "--target-dir=" + t.TempDir()}, login...)...),
		job.SQLText:  run("mariadb-dump", append([]string{"--no-defaults", "--databases", "shop", "--single-transaction"}, login...)...),
		job.Tar:      run("sh", "-c", `cd "$1" && tar -cf - *`, "sh", dir),
	}
}

// arriving is what the check of the format says of a stream, as the receiver asks it.
func arriving(format job.Format, stream []byte) error {
	var check io.WriteCloser
	switch format {
	case job.XBStream:
		check = xbstream.New()
	case job.SQLText:
		check = new(dump.SQL)
	default:
		check = dump.NewTar()
	}
	_, _ = check.Write(stream)
	return check.Close()
}

// A backup rots on the disk after it was stored. Whatever its kind and form: verify finds every cut and every bit, and who
// reads it back gets either an error or, where the bit means nothing, the very bytes.
func TestNoDamagePassesEveryCheck(t *testing.T) {
	t.Parallel()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	real := realBackups(t)
	for format, stream := range real {
		if err := arriving(format, stream); err != nil {
			t.Fatalf("the real %s: %v", format, err)
		}
		t.Run("on the way, "+string(format), func(t *testing.T) { harmOnTheWay(t, format, stream) })
	}
	for _, c := range []struct {
		name   string
		format job.Format
		form   sink.Spec
	}{
		{"physical, zstd", job.XBStream, sink.Spec{Compress: sink.Zstd}},
		{"folder as it came", job.Tar, sink.Spec{}},
		{"text, gzip", job.SQLText, sink.Spec{Compress: sink.Gzip}},
		{"folder, encrypted", job.Tar, sink.Spec{Encrypted: true, Recipients: []age.Recipient{id.Recipient()}}},
		{"folder, zstd and encrypted", job.Tar, sink.Spec{Compress: sink.Zstd, Encrypted: true, Recipients: []age.Recipient{id.Recipient()}}},
	} {
		t.Run(c.name, func(t *testing.T) { harmStored(t, c.form, real[c.format], id) })
	}
}

func harmStored(t *testing.T, form sink.Spec, stream []byte, id age.Identity) {
	rnd := damagetest.Rand(t)
	s := newShelf(t)
	path := s.putAs("A", stream, form)
	if found := s.verify(); len(found) != 1 || found[0].Problem != "" {
		t.Fatalf("the good one: %+v", found)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := sink.Content{Compress: form.Compress, Encrypted: form.Encrypted, Identities: []age.Identity{id}, Size: int64(len(stream)),
		Algo: sink.BLAKE3, Hash: sum(t, sink.BLAKE3, stream)}
	readBack := func() ([]byte, error) {
		var out bytes.Buffer
		_, err := sink.Copy(t.Context(), &out, path, want, nil)
		return out.Bytes(), err
	}
	if got, err := readBack(); err != nil || !bytes.Equal(got, stream) {
		t.Fatalf("the good one does not come back: %v", err)
	}
	for _, bad := range damagetest.Cuts(rnd, file, len(file)/(1<<20)<<20) { // where a block of the writer ends, too
		s.write(path, bad.Data)
		if found := s.verify(); len(found) != 1 || !strings.Contains(found[0].Problem, "bytes, the manifest says") {
			t.Errorf("%s: verify says %+v", bad.What, found)
		}
		if _, err := readBack(); err == nil {
			t.Errorf("%s: it is read back without an error", bad.What)
		}
	}
	flips := damagetest.Flips(rnd, file)
	for range damagetest.Places { // where the headers of compression and encryption are
		flips = append(flips, damagetest.Flip(file, rnd.IntN(min(200, len(file))), uint(rnd.IntN(8))))
	}
	for _, bad := range flips {
		s.write(path, bad.Data)
		if found := s.verify(); len(found) != 1 || !strings.Contains(found[0].Problem, "not what was received") {
			t.Errorf("%s: verify says %+v", bad.What, found)
		}
		if got, err := readBack(); err == nil && !bytes.Equal(got, stream) {
			t.Errorf("%s: other bytes are read back without an error", bad.What)
		}
	}
	if !form.Encrypted {
		return
	}
	s.write(path, file)
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	want.Identities = []age.Identity{other}
	if got, err := readBack(); !errors.Is(err, sink.ErrIdentity) || len(got) > 0 {
		t.Errorf("with another key %d bytes come, %v", len(got), err)
	}
}

// sum is a hash of data.
func sum(t *testing.T, algo string, data []byte) string {
	t.Helper()
	h, err := sink.NewHash(algo)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = h.Write(data)
	return sink.HexSum(h)
}

// A bit that flips on its way is sealed as if it belonged there: file, hash and signature agree. What the format does not
// show (docs/testing.md says what) is found by the hash of what was sent.
func harmOnTheWay(t *testing.T, format job.Format, stream []byte) {
	rnd := damagetest.Rand(t)
	task, _ := job.TaskByName("mariabackup")
	n := int64(len(stream))
	for _, bad := range damagetest.Flips(rnd, stream) {
		if err := arriving(format, bad.Data); err != nil {
			continue
		}
		v := job.Judge(task, job.Job{State: job.Finished,
			Stream:   &job.Stream{Opened: time.Now(), Complete: true, Bytes: n, Algo: sink.SHA256, Hash: sum(t, sink.SHA256, bad.Data)},
			Evidence: job.Evidence{Completed: true, Sent: &n, SentSHA256: sum(t, sink.SHA256, stream), Exit: []int{0, 0}}}, true)
		if v.Event != job.Refute || !strings.Contains(v.Reason, "hash of the sent bytes differs") {
			t.Errorf("%s: %s %s", bad.What, v.Event, v.Reason)
		}
	}
}
