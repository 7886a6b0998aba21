package scripts

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var oddPasswords = map[string]string{
	"one byte":       "x",
	"one quote":      "'",
	"one percent":    "%",
	"backslash":      `\`,
	"64 bytes":       strings.Repeat("0123456789abcdef", 4),
	"hostile":        oddPassword,
	"escapes":        `\n\t\x41\101%s%n$(id)` + "`id`" + `${HOME}!!`,
	"UTF-8":          "pässwörd-密码-🔑",
	"not UTF-8":      "\xff\xfe\x80",
	"trailing space": "secret ",
	"leading space":  " secret",
	"leading dash":   "-pass",
	"tab":            "a\tb",
	"ampersand":      "a&b&&c",
	"comment":        "#start;[client]",
}

func TestEnvelopeIsTheProtocolsForEveryPassword(t *testing.T) {
	t.Parallel()
	for name, password := range oddPasswords {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, plain := range []string{`{"nonce":"123456`, `{"nonce":"0123456789abcdef","log":"a\\b %s \x00é` + "\xff\t" + `"}`, `{"nonce":"1234567` + strings.Repeat("long ", 30000)} {
				plain = strings.ReplaceAll(plain, "\x00", "")
				path := filepath.Join(t.TempDir(), "plain")
				writeFile(t, path, plain)
				sealed := library(t, password, `seal "$(<"$1")"; printf %s "$SEALED"`, path)
				got, err := decrypt([]byte(sealed), password)
				if err != nil || string(got) != plain {
					t.Errorf("%.60q: got %.60q, %v", plain, got, err)
				}
			}
		})
	}
}

func TestIdentityParsesForEveryPassword(t *testing.T) {
	t.Parallel()
	for name, password := range oddPasswords {
		if name == "not UTF-8" { // JSON cannot carry it: the bytes are sent raw
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sealed := library(t, password, `seal_identity '"job":"J"'; printf %s "$SEALED"`)
			id, err := openEnvelope([]byte(sealed), password, "127.0.0.1:3306")
			if err != nil || id.Job != "J" {
				t.Errorf("got %+v, %v", id, err)
			}
		})
	}
}

func TestEqualMessagesDoNotLookEqual(t *testing.T) {
	t.Parallel()
	two := strings.Split(library(t, "p", `for i in 1 2; do seal_identity ''; printf '%s\n' "$SEALED"; done`), "\n")
	if two[0][:40] == two[1][:40] {
		t.Errorf("both start %s", two[0][:40])
	}
}

func TestQuoteIsJSONForEveryByte(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	for b := 1; b < 128; b++ {
		all.WriteByte(byte(b))
	}
	for _, text := range []string{all.String(), `\\"\"\`, "é\x7f", "", `\u0041`, "&&", "\x1b[31m"} {
		path := filepath.Join(t.TempDir(), "text")
		writeFile(t, path, text+".")
		var got string
		quoted := library(t, "p", `IFS= read -r -d '' text <"$1"; quote "${text%.}"; printf %s "$QUOTED"`, path)
		if err := json.Unmarshal([]byte(quoted), &got); err != nil || got != text {
			t.Errorf("%q became %q: %v", text, quoted, err)
		}
	}
	raw := library(t, "p", `quote $'a\xffb'; printf %s "$QUOTED"`)
	if raw != "\"a\xffb\"" {
		t.Errorf("a byte that is not UTF-8 became %q", raw)
	}
}

// The option file must give the client library exactly the password.
func TestOptionFileGivesEveryPasswordBack(t *testing.T) {
	t.Parallel()
	for name, password := range oddPasswords {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			library(t, password, `WORK=$1 DB_USER='us"er #1'; write_option_file`, dir)
			file := filepath.Join(dir, "client.cnf")
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("option file: %v %v", info, err)
			}
			// The reader that every tool of the server uses, asked for what it read.
			for _, group := range []string{"client", "xtrabackup"} {
				out, err := exec.Command("my_print_defaults", "--defaults-file="+file, group).Output()
				if err != nil || !bytes.Contains(out, []byte("--password="+password+"\n")) || !bytes.Contains(out, []byte(`--user=us"er #1`+"\n")) {
					t.Errorf("read back %q: %v", out, err)
				}
			}
		})
	}
}
