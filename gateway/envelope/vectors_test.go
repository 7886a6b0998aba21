package envelope

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "make testdata/openssl.json again with the openssl command")

const vectorFile = "testdata/openssl.json"

// vector is one body as a client with the openssl command makes it.
type vector struct {
	Name     string `json:"name"`
	Password string `json:"password"`
	Plain    []byte `json:"plain"` // before any filling, base64 in the file: it need not be UTF-8
	Fill     int    `json:"fill"`  // bytes of value 1 that the shell client added before openssl padded
	Body     string `json:"body"`
}

// passwords a shell can stumble over.
var passwords = []string{
	"mariadb", "x", `it's`, `say "hi"`, "two words ", ` lead`, `a$b`, "back\\slash", "100%", "pässwörd-日本", "a#b&c=d+e/f",
	`p'a"s s$w\o%r&d é#`, strings.Repeat("k", 64), strings.Repeat("0123456789", 20),
}

func identityJSON(t *testing.T, password, log string) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{"server": "10.0.1.5:3306", "secret": password, "level": "INFO", "log": log})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func makeVectors(t *testing.T) []vector {
	var all []vector
	add := func(name, password string, plain []byte, fill int) {
		all = append(all, vector{name, password, plain, fill, openssl(t, password, append(bytes.Clone(plain), bytes.Repeat([]byte{1}, fill)...))})
	}
	for _, p := range passwords {
		plain := identityJSON(t, p, "Job mariabackup initiated.")
		add("go client, password "+p, p, plain, 0)
		add("shell client, password "+p, p, plain, 32-len(plain)%32)
	}
	for n := range 32 { // every filling from 32 down to 1
		plain := identityJSON(t, "mariadb", strings.Repeat("x", n))
		plain = append(plain[:len(plain)-1], strings.Repeat(" ", (32-len(identityJSON(t, "mariadb", ""))%32)%32)+"}"...)
		add(fmt.Sprintf("filling %d", 32-n), "mariadb", plain, 32-n)
	}
	raw := "{\"server\":\"10.0.1.5:3306\",\"secret\":\"mariadb\",\"log\":\"tab\there \x1b[31mred\x1b[0m \xff\xfe \\\"q\\\" c:\\dir \x00\x01\"}"
	add("raw bytes", "mariadb", []byte(raw), 32-len(raw)%32)
	return all
}

// openssl seals with the real command. The key stands in its argv, which only test passwords may.
func openssl(t *testing.T, password string, plain []byte) string {
	t.Helper()
	key, iv := sha256.Sum256([]byte(password)), md5.Sum([]byte(password))
	cmd := exec.Command("openssl", "enc", "-aes-256-cbc", "-a", "-A", "-K", hex.EncodeToString(key[:]), "-iv", hex.EncodeToString(iv[:]))
	cmd.Stdin, cmd.Stderr = bytes.NewReader(plain), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("run openssl: %v", err)
	}
	return `{"data":"` + strings.TrimSpace(string(out)) + `"}`
}

func vectors(t *testing.T) []vector {
	t.Helper()
	b, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// The command on this machine must still make what testdata says; with -update it writes it.
func TestOpensslStillMakesTheVectors(t *testing.T) {
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	enc.SetIndent("", " ")
	if err := enc.Encode(makeVectors(t)); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(vectorFile, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Fatal("openssl makes other bodies than testdata: run go test -run Vectors -update")
	}
}

func TestBodiesMadeByOpensslOpen(t *testing.T) {
	t.Parallel()
	fills := map[int]bool{}
	for _, v := range vectors(t) {
		fills[v.Fill] = true
		c := New(v.Password)
		plain, err := c.Open([]byte(v.Body))
		if err != nil || !bytes.Equal(plain, v.Plain) {
			t.Errorf("%s: opened %q, %v", v.Name, plain, err)
			continue
		}
		if id, err := c.Identify(plain, "10.0.1.5:3306", v.Password, RequireSecret); err != nil || id.Secret != v.Password {
			t.Errorf("%s: identity %+v, %v", v.Name, id, err)
		}
		if v.Fill == 0 && string(c.Seal(v.Plain)) != v.Body {
			t.Errorf("%s: Seal differs from openssl", v.Name)
		}
	}
	for n := range 33 {
		if !fills[n] {
			t.Errorf("no vector with %d bytes of filling", n)
		}
	}
}

// sealRaw encrypts whole blocks without any padding.
func sealRaw(t *testing.T, password string, blocks []byte) []byte {
	t.Helper()
	// Seal appends one more block of padding to whole blocks; CBC lets it be cut off again.
	var body struct{ Data []byte }
	if err := json.Unmarshal(New(password).Seal(blocks), &body); err != nil {
		t.Fatal(err)
	}
	return []byte(`{"data":"` + base64.StdEncoding.EncodeToString(body.Data[:len(blocks)]) + `"}`)
}
