package sink

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"
)

func identity(t *testing.T) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// receiveSealed stores data encrypted for the holders of ids and returns the file.
func receiveSealed(t *testing.T, compress string, data []byte, ids ...*age.X25519Identity) []byte {
	t.Helper()
	spec := newSpec(t)
	spec.Compress, spec.Encrypted = compress, true
	for _, id := range ids {
		spec.Recipients = append(spec.Recipients, id.Recipient())
	}
	f, err := Create(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Receive(t.Context(), choppy{bytes.NewReader(data), rand.New(rand.NewPCG(1, 2))}, nil); err != nil {
		t.Fatal(err)
	}
	res, err := f.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if sum, size, err := HashFile(t.Context(), res.Path, spec.Hash, nil); err != nil || sum != res.StoredHash || size != res.Stored {
		t.Errorf("the file hashes to %s with %d bytes (%v), the result says %s and %d", sum, size, err, res.StoredHash, res.Stored)
	}
	if res.Hash != oneShot(spec.Hash, data) || res.Received != int64(len(data)) {
		t.Errorf("the stream's own hash is lost: %+v", res)
	}
	file, err := os.ReadFile(res.Path)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestOnlyARecipientReadsAnEncryptedFile(t *testing.T) {
	t.Parallel()
	a, b, stranger := identity(t), identity(t), identity(t)
	for _, compress := range []string{None, Gzip, Zstd} {
		for _, size := range []int{0, 1, 64 << 10, 3<<20 + 7} {
			t.Run(fmt.Sprintf("%s-%d", compress, size), func(t *testing.T) {
				t.Parallel()
				data := sample(size)
				file := receiveSealed(t, compress, data, a, b)
				if size > 64 && bytes.Contains(file, data[:64]) {
					t.Error("the file shows its content")
				}
				for _, id := range []*age.X25519Identity{a, b} {
					r, err := Unpack(bytes.NewReader(file), compress, true, stranger, id)
					if err != nil {
						t.Fatal(err)
					}
					got, err := io.ReadAll(r)
					if err != nil || !bytes.Equal(got, data) {
						t.Errorf("%d bytes came back of %d, %v", len(got), len(data), err)
					}
					_ = r.Close()
				}
				for _, ids := range [][]age.Identity{{stranger}, nil} {
					if _, err := Unpack(bytes.NewReader(file), compress, true, ids...); !errors.Is(err, ErrIdentity) {
						t.Errorf("with %d other identities: %v", len(ids), err)
					}
				}
			})
		}
	}
}

func TestAnEncryptedFileIsReadBackForAReseed(t *testing.T) {
	t.Parallel()
	id, stranger := identity(t), identity(t)
	data := sample(1<<20 + 3)
	path := filepath.Join(t.TempDir(), "backup")
	if err := os.WriteFile(path, receiveSealed(t, Zstd, data, id), 0o600); err != nil {
		t.Fatal(err)
	}
	want := Content{Compress: Zstd, Encrypted: true, Identities: []age.Identity{id}, Size: int64(len(data)), Algo: BLAKE3, Hash: oneShot(BLAKE3, data)}
	var out bytes.Buffer
	if sum, err := Copy(t.Context(), &out, path, want, nil); err != nil || sum != oneShot(SHA256, data) || !bytes.Equal(out.Bytes(), data) {
		t.Errorf("%d bytes with SHA-256 %s, %v", out.Len(), sum, err)
	}
	for _, ids := range [][]age.Identity{nil, {stranger}} {
		out.Reset()
		want.Identities = ids
		if _, err := Copy(t.Context(), &out, path, want, nil); !errors.Is(err, ErrIdentity) || errors.Is(err, ErrDamaged) || out.Len() > 0 {
			t.Errorf("with %d other keys: %v after %d bytes", len(ids), err, out.Len())
		}
	}
}

func TestWithoutARecipientNothingIsStored(t *testing.T) {
	t.Parallel()
	spec := newSpec(t)
	spec.Encrypted = true
	if f, err := Create(spec); err == nil {
		t.Error("a file was begun that nobody could read, or everybody", f.Abort())
	}
	if _, err := os.Lstat(spec.Temp()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file is left: %v", err)
	}
}

func TestAnEncryptedFileThatWasCutOrChangedIsNotRead(t *testing.T) {
	t.Parallel()
	id := identity(t)
	data := sample(1<<20 + 5)
	for _, compress := range []string{None, Gzip, Zstd} {
		file := receiveSealed(t, compress, data, id)
		rnd := rand.New(rand.NewPCG(3, 4))
		for range 20 {
			cut := file[:rnd.IntN(len(file))]
			flipped := bytes.Clone(file)
			flipped[rnd.IntN(len(file))] ^= 1 << rnd.IntN(8)
			for what, damaged := range map[string][]byte{"cut": cut, "flipped": flipped} {
				if got, err := unpackAll(damaged, compress, id); err == nil {
					t.Errorf("%s %s to %d bytes: read %d bytes without an error", compress, what, len(damaged), got)
				}
			}
		}
	}
}

func unpackAll(file []byte, compress string, id age.Identity) (int64, error) {
	r, err := Unpack(bytes.NewReader(file), compress, true, id)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	return io.Copy(io.Discard, r)
}
