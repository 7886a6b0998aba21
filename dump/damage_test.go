package dump

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"drydock/internal/backuptest"
	"drydock/internal/bustest"
	"drydock/internal/damagetest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
)

func judged(check io.WriteCloser, data []byte) error {
	_, _ = check.Write(data)
	return check.Close()
}

func asText(data []byte) error   { return judged(new(SQL), data) }
func asFolder(data []byte) error { return judged(NewTar(), data) }

func output(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	out, err := exec.CommandContext(bustest.Context(t), name, args...).Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return out
}

// realFolder is the tar of a folder that mydumper made.
func realFolder(t *testing.T, login []string, options ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	backuptest.MyDumper(t, dir, slices.Concat(login, []string{"--database=shop", "--build-empty-files", "--threads=1", "--triggers"}, options)...)
	return output(t, "sh", "-c", `cd "$1" && tar -cf - *`, "sh", dir)
}

// A dump that lost its end, or a file, loads without an error and with a part of the data.
func TestDamageOfRealDumpsIsFound(t *testing.T) {
	t.Parallel()
	rnd := damagetest.Rand(t)
	m := mariadbdtest.Start(t, mariadbd.Options{Password: "secret", LogBin: true})
	if err := mariadbd.Generate(t.Context(), m, 1<<20, nil); err != nil {
		t.Fatal(err)
	}
	db, err := m.DB()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range []string{"CREATE TABLE shop.void (i INT)", "CREATE VIEW shop.v AS SELECT * FROM shop.void",
		"CREATE TRIGGER shop.tr BEFORE INSERT ON shop.void FOR EACH ROW SET NEW.i = 1"} {
		if _, err := db.ExecContext(bustest.Context(t), s); err != nil {
			t.Fatal(err)
		}
	}
	login := []string{"--socket=" + m.Socket(), "--user=" + m.User(), "--password=" + m.Password()}
	text := output(t, "mariadb-dump", append([]string{"--no-defaults"}, append(login, "--databases", "shop", "--single-transaction", "--master-data=2")...)...)
	plain, packed := realFolder(t, login), realFolder(t, login, "--compress", "--rows=1000")
	for name, err := range map[string]error{"text": asText(text), "folder": asFolder(plain), "packed folder": asFolder(packed)} {
		if err != nil {
			t.Fatalf("the real %s: %v", name, err)
		}
	}
	marker := bytes.LastIndex(text, []byte("\n-- Dump completed")) + 1
	for _, bad := range damagetest.Cuts(rnd, text, marker, marker+len("-- Dump completed")) {
		if asText(bad.Data) == nil {
			t.Errorf("text, %s: nothing is found", bad.What)
		}
	}
	for at := marker; at < marker+len("-- Dump completed"); at++ {
		if bad := damagetest.Flip(text, at, uint(rnd.IntN(8))); asText(bad.Data) == nil {
			t.Errorf("text, %s: nothing is found", bad.What)
		}
	}
	t.Run("folder", func(t *testing.T) { harmFolder(t, plain) })
	t.Run("packed folder", func(t *testing.T) { harmFolder(t, packed) })
}

// harmFolder cuts a tar, takes files out of it, cuts files, and flips bits.
func harmFolder(t *testing.T, good []byte) {
	rnd := damagetest.Rand(t)
	files := unpack(t, good)
	for _, bad := range damagetest.Cuts(rnd, good, 512, len(bytes.TrimRight(good, "\x00"))) {
		padding := bad.At%512 == 0 && len(bytes.TrimRight(good, "\x00"))+1024 <= bad.At // whole blocks of nothing: no loss
		if asFolder(bad.Data) == nil && !padding {
			t.Errorf("%s: nothing is found", bad.What)
		}
	}
	for i, gone := range files {
		rest := append(append([][2]string(nil), files[:i]...), files[i+1:]...)
		err := asFolder(pack(t, flat(rest)...))
		if err == nil && !leavesNoTrace(files, gone[0]) {
			t.Errorf("without %s: nothing is found", gone[0])
		} else if err != nil && !errors.Is(err, ErrMissing) && gone[0] != MetadataFile {
			t.Errorf("without %s: %v", gone[0], err)
		}
		if gone[1] == "" || strings.Contains(gone[0], "-schema-post") {
			continue
		}
		cut := append([][2]string(nil), files...)
		cut[i][1] = strings.TrimRight(gone[1], ";\n")
		cut[i][1] = cut[i][1][:len(cut[i][1])-1-rnd.IntN(min(8, len(cut[i][1])-1))]
		if asFolder(pack(t, flat(cut)...)) == nil && !otherSchema.MatchString(strings.TrimSuffix(gone[0], ".sql")) {
			t.Errorf("%s cut: nothing is found", gone[0])
		}
	}
	for _, bad := range damagetest.Flips(rnd, good) {
		if name := plainText(t, good, bad.At); asFolder(bad.Data) == nil && name == "" {
			t.Errorf("%s: nothing is found", bad.What)
		}
	}
}

// leavesNoTrace tells that no other file implies one: the last of those with the rows of a table, triggers, the place holder of
// a view, and the schema of the only database (mydumper writes none when it is told which tables to dump). The hashes of what was sent and stored find that it is gone.
func leavesNoTrace(files [][2]string, name string) bool {
	stem := name[:strings.Index(name+".sql", ".sql")]
	if otherSchema.MatchString(stem) {
		return !strings.HasSuffix(stem, "-schema-view")
	}
	if strings.HasSuffix(stem, ".v-schema") {
		return true
	}
	n := numbered.FindStringSubmatch(stem)
	if n == nil {
		return false
	}
	later := 0
	for _, f := range files {
		if strings.HasPrefix(f[0], n[1]+".") && f[0] > name {
			later++
		}
	}
	return later == 0 && n[2] != "00000"
}

// plainText names the file when a byte of the archive is one of a text that has no checksum; "" for the others, which the tar
// or the compression protects.
func plainText(t *testing.T, archive []byte, at int) string {
	t.Helper()
	r := bytes.NewReader(archive)
	for files := tar.NewReader(r); ; {
		head, err := files.Next()
		if errors.Is(err, io.EOF) {
			if at >= len(archive)-r.Len() || at >= len(bytes.TrimRight(archive, "\x00")) {
				return "padding"
			}
			return ""
		}
		if err != nil {
			t.Fatal(err)
		}
		begin := len(archive) - r.Len()
		blocks := (int(head.Size) + 511) / 512 * 512
		switch {
		case at >= begin && at < begin+int(head.Size):
			if strings.HasSuffix(head.Name, ".gz") && at >= begin+10 { // its head has a time, too
				return ""
			}
			return head.Name
		case at >= begin && at < begin+blocks:
			return "padding"
		}
	}
}

func unpack(t *testing.T, archive []byte) (files [][2]string) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, [2]string{head.Name, string(body)})
	}
}

func flat(files [][2]string) (out []string) {
	for _, f := range files {
		out = append(out, f[0], f[1])
	}
	return out
}

func FuzzSQL(f *testing.F) {
	f.Add([]byte(mariaHead+mariaBody+mariaTail+end), 7)
	f.Add([]byte(mysqlHead+mariaBody+end), 1)
	f.Fuzz(func(t *testing.T, data []byte, piece int) {
		var whole, pieces SQL
		want := judged(&whole, data)
		size := 1 + int(uint(piece)%64)
		for rest := data; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			_, _ = pieces.Write(rest[:min(size, len(rest))])
		}
		if got := pieces.Close(); (got == nil) != (want == nil) || whole.Position() != pieces.Position() || whole.Tool() != pieces.Tool() {
			t.Fatalf("in pieces of %d: %v, %+v; at once: %v, %+v", size, got, pieces.Position(), want, whole.Position())
		}
		if want == nil && !bytes.Contains(data, []byte("-- Dump completed")) {
			t.Fatal("a dump without its end is good")
		}
	})
}

func FuzzTar(f *testing.F) {
	f.Add(pack(f, "shop-schema-create.sql", "x;", "shop.a-schema.sql", "x;", "shop.a.00000.sql.gz", gz(f, "x;"), "metadata", oldMetadata), 100)
	f.Add(pack(f, "./shop.a-schema.sql", "x;", "./shop.a.sql", "", "./metadata", newMetadata), 1)
	f.Fuzz(func(t *testing.T, data []byte, piece int) {
		want := asFolder(data)
		pieces, size := NewTar(), max(1+int(uint(piece)%4096), len(data)/256) // each piece waits for the reader
		for rest := data; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			_, _ = pieces.Write(rest[:min(size, len(rest))])
		}
		if got := pieces.Close(); (got == nil) != (want == nil) {
			t.Fatalf("in pieces of %d: %v, at once: %v", size, got, want)
		}
		if want == nil && !bytes.Contains(data, []byte("Finished dump at")) {
			t.Fatal("a folder without its metadata is good")
		}
	})
}
