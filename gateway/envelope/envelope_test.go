package envelope

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
)

const (
	server   = "10.0.1.5:3306"
	password = `p'a"s s$w\o%r&d é#`
)

func TestNoPayloadIsNotAnError(t *testing.T) {
	t.Parallel()
	c := New(password)
	for _, body := range []string{"", " \r\n", `{"data":""}`, ` {"data":""} `, `{ "data" : "" }`, `{"x":1,"data":""}`} {
		if plain, err := c.Open([]byte(body)); plain != nil || err != nil {
			t.Errorf("%q: %q, %v", body, plain, err)
		}
	}
	if _, err := c.Identify(nil, server, password); !errors.Is(err, ErrSealed) {
		t.Errorf("no payload identified somebody: %v", err)
	}
}

func TestEnvelopeSpellingsThatClientsUse(t *testing.T) {
	t.Parallel()
	c := New(password)
	plain := []byte(`{"server":"` + server + `","log":"` + strings.Repeat("abc", 60) + `"}`)
	data := strings.TrimSuffix(strings.TrimPrefix(string(c.Seal(plain)), head), tail)
	if !strings.HasSuffix(data, "=") || !strings.Contains(data, "/") {
		t.Fatalf("the example has no padding or no slash, it tests too little: %s", data)
	}
	wrapped := data[:64] + "\n" + data[64:128] + "\r\n" + data[128:] + "\n"
	for name, body := range map[string]string{
		"plain":            `{"data":"` + data + `"}`,
		"white space":      "\n{ \"data\" :\t\"" + data + "\" }\r\n",
		"no padding":       `{"data":"` + strings.TrimRight(data, "=") + `"}`,
		"raw line breaks":  `{"data":"` + wrapped + `"}`,
		"raw, with spaces": `{ "data": "` + wrapped + ` "}`,
		"escaped breaks":   `{"data":"` + strings.NewReplacer("\n", `\n`, "\r", `\r`).Replace(wrapped) + `"}`,
		"escaped slash":    `{"data":"` + strings.ReplaceAll(data, "/", `\/`) + `"}`,
		"another member":   `{"v":{"a":[1,"}"]},"data":"` + data + `","w":null}`,
	} {
		if got, err := c.Open([]byte(body)); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestMalformedBodyIsRefusedWithOneError(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		"x", "{}", "[]", "null", `"data"`, `{"data"}`, `{"data":}`, `{"data":null}`, `{"data":5}`, `{"data":"AAAA"}`, `{"data":"!!!"}`,
		`{"data":"AAAAAAAAAAAAAAAAAAAAAA=="} {"data":""}`, `{"data":"`, `{"data":"AAAA`, `{"data":"=="}`, `{"data":"",}`, "{\"data\":\"\"\x00}",
	} {
		if plain, err := New(password).Open([]byte(body)); err != ErrSealed || plain != nil {
			t.Errorf("%q: %q, %v", body, plain, err)
		}
	}
}

func TestFillingIsStrippedOnlyBehindJSON(t *testing.T) {
	t.Parallel()
	c := New(password)
	for plain, want := range map[string]string{
		`{}` + strings.Repeat("\x01", 1):      `{}`,
		`{}` + strings.Repeat("\x01", 32):     `{}`,
		"{}\n" + strings.Repeat("\x01", 7):    "{}\n",
		"abc\x01\x01":                         "abc\x01\x01",
		`{"log":"ends in` + "\x01\x01":        `{"log":"ends in` + "\x01\x01",
		`{"log":"` + "\x01\x01" + `"}`:        `{"log":"` + "\x01\x01" + `"}`,
		"\x01":                                "\x01",
		`{}` + strings.Repeat("\x01", 33):     `{}` + strings.Repeat("\x01", 33),
		`{}x` + strings.Repeat("\x01", 5):     `{}x` + strings.Repeat("\x01", 5),
		`{"a":"` + "\x01" + `"}` + "\x01\x01": `{"a":"` + "\x01" + `"}`,
	} {
		if got, err := c.Open(c.Seal([]byte(plain))); err != nil || string(got) != want {
			t.Errorf("%q opened as %q, %v", plain, got, err)
		}
	}
}

// An answer about the padding would decrypt a recorded body; Open gives none, and the caller sees one error either way.
func TestPaddingIsNoOracle(t *testing.T) {
	t.Parallel()
	c := New(password)
	block := []byte(`{"server":"xxxx"`)
	for last := range 256 {
		blocks := append(bytes.Clone(block), []byte("0123456789abcde"+string([]byte{byte(last)}))...)
		plain, err := c.Open(sealRaw(t, password, blocks))
		if err != nil {
			t.Fatalf("last byte %d: Open told the padding by %v", last, err)
		}
		if _, err := c.Identify(plain, server, password); err != ErrSealed {
			t.Fatalf("last byte %d: %v", last, err)
		}
		// Only byte 1 alone is right padding here; wrong padding is left where it is.
		if want := 32; last == 1 && len(plain) != want-1 || last != 1 && len(plain) != want {
			t.Errorf("last byte %d: %d bytes left", last, len(plain))
		}
	}
}

func TestUnpadEveryLength(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 16; n++ {
		b := append(bytes.Repeat([]byte("x"), 32-n), bytes.Repeat([]byte{byte(n)}, n)...)
		if got := unpad(bytes.Clone(b)); len(got) != 32-n {
			t.Errorf("padding %d: %d bytes left", n, len(got))
		}
		if n == 1 {
			continue
		}
		b[32-n]++
		if got := unpad(b); len(got) != 32 {
			t.Errorf("broken padding %d: %d bytes left", n, len(got))
		}
	}
}

func TestWrongCallerIsRefusedWithOneError(t *testing.T) {
	t.Parallel()
	c := New(password)
	ok := `{"server":"` + server + `","secret":"s"}`
	if _, err := c.Identify([]byte(ok), server, "s", RequireSecret); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty": "", "no object": `"x"`, "array": `[{"server":"` + server + `"}]`, "no server": `{"secret":"s"}`,
		"other server": `{"server":"10.0.1.5:3307","secret":"s"}`, "server prefix": `{"server":"10.0.1.5","secret":"s"}`,
		"wrong secret": `{"server":"` + server + `","secret":"t"}`, "empty secret": `{"server":"` + server + `","secret":""}`,
		"secret null": `{"server":"` + server + `","secret":null}`, "secret no string": `{"server":"` + server + `","secret":5}`,
		"two objects": ok + ok, "garbage behind": ok + "x", "NUL behind": ok + "\x00", "cut": ok[:len(ok)-1], "trailing comma": ok[:len(ok)-1] + ",}",
		"server twice": `{"server":"x","server":"` + server + `","secret":"s"}`, "secret twice": `{"server":"` + server + `","secret":"t","secret":"s"}`,
		"server twice, once escaped": `{"\u0073erver":"x","server":"` + server + `","secret":"s"}`,
		"no colon":                   `{"server" "` + server + `"}`, "broken nested": `{"server":"` + server + `","x":[1}}`, "bare word": `{"server":"` + server + `","x":abc}`,
		"empty value": `{"server":"` + server + `","x":}`, "control outside": "{\x01\"server\":\"" + server + `"}`,
	} {
		if id, err := c.Identify([]byte(text), server, "s"); err != ErrSealed || !reflect.DeepEqual(id, Identity{}) {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
}

func TestMissingSecretOnlyWhereAllowed(t *testing.T) {
	t.Parallel()
	c, text := New(""), []byte(`{"server":"`+server+`","log":"x"}`)
	if _, err := c.Identify(text, server, password); err != nil {
		t.Errorf("an older client's write-log: %v", err)
	}
	for _, pw := range []string{password, ""} { // a server with an empty password is no exception
		if _, err := c.Identify(text, server, pw, RequireSecret); err != ErrSealed {
			t.Errorf("password %q: login without a secret: %v", pw, err)
		}
	}
}

func TestHandBuiltJSONIsKept(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ log, want string }{
		"raw tab and newline":     {"a\tb\nc\rd", "a\tb\nc\rd"},
		"terminal colours":        {"\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"},
		"NUL and bell":            {"a\x00b\x07", "a\x00b\x07"},
		"not UTF-8":               {"caf\xe9 \xff\xfe!", "caf\uFFFD \uFFFD\uFFFD!"},
		"UTF-8":                   {"日本 é", "日本 é"},
		"proper escapes":          {`q\"q b\\s s\/ n\n t\t \u00e9 \ud83d\ude00 \b\f\r`, "q\"q b\\s s/ n\n t\t é 😀 \b\f\r"},
		"half a pair":             {`\ud83d x \ude00`, "\uFFFD x \uFFFD"},
		"half a pair and escape":  {`\ud83d\u0041`, "\uFFFDA"},
		"unknown escapes":         {`\d+ \$x \x41 \u12 \uzzzz \' \`, `\d+ \$x \x41 \u12 \uzzzz \' \`},
		"backslash before raw":    {"a\\\nb\\\x01", "a\\\nb\\\x01"},
		"quotes, then a lone one": {`say \"hi\", c:\`, `say "hi", c:\`},
		"braces and quotes":       {`}{ \"server\":\"x\" ]`, `}{ "server":"x" ]`},
	} {
		for order, text := range map[string]string{
			"last":  `{"server":"` + server + `","log":"` + tc.log + `"}`,
			"first": `{"log":"` + tc.log + `","server":"` + server + `"}`,
		} {
			id, err := New("").Identify([]byte(text), server, "")
			if err != nil || id.Log != tc.want {
				t.Errorf("%s, %s: %q, %v; want %q", name, order, id.Log, err, tc.want)
			}
		}
	}
}

func TestPrintedIdentityHasNoSecret(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	id := Identity{Server: server, Secret: "hunter2", Job: "01J"}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "id", id)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "id", id)
	fmt.Fprintf(&out, "%v %+v %s", id, &id, id)
	if strings.Contains(out.String(), "hunter2") || !strings.Contains(out.String(), "01J") {
		t.Errorf("printed %s", out.String())
	}
}

func TestNobodyIsNotTheServerWithoutAName(t *testing.T) {
	t.Parallel()
	if _, err := New("").Identify([]byte(`{"log":"x"}`), "", ""); err != ErrSealed {
		t.Errorf("an identity without a server: %v", err)
	}
}

// What somebody gets logged must not become a member, however the line ends.
func TestLoggedTextCannotNameAnotherServer(t *testing.T) {
	t.Parallel()
	for _, line := range []string{`x","server":"evil:1`, `x\","server":"evil:1`, `x\`, `x\\`, `\","secret":"`, `"}`, `\"}`, "\\\n\""} {
		text, err := json.Marshal(map[string]string{"log": line, "server": server})
		if err != nil {
			t.Fatal(err)
		}
		if id, err := New("").Identify(text, server, ""); err != nil || id.Log != line {
			t.Errorf("%q became %q, %v", line, id.Log, err)
		}
	}
	// A client that escapes nothing is refused rather than believed.
	if _, err := New("").Identify([]byte(`{"server":"`+server+`","log":"x","server":"`+server+`"}`), server, ""); err != ErrSealed {
		t.Errorf("two servers: %v", err)
	}
}

func TestAllMembers(t *testing.T) {
	t.Parallel()
	text := "{\"server\":\"" + server + "\",\"secret\":\"s\",\"level\":\"WARN\",\"log\":\"l\",\"job\":\"01J\",\"attempt\":\"2\",\"bytes\":0,\"sha256\":\"ab\"," +
		"\"exit\":[0,141],\"result\":\"r\tr\",\"restore\":{\"from\":\"a\tb\",\"n\":[1,2]},\"time\":1790000000,\"nonce\":\"ff\",\"new\":{\"x\":1}}"
	zero := int64(0)
	want := Identity{Server: server, Secret: "s", Level: "WARN", Log: "l", Job: "01J", Attempt: 2, Bytes: &zero, SHA256: "ab", Exit: []int{0, 141},
		Result: "r\tr", Restore: json.RawMessage(`{"from":"a\u0009b","n":[1,2]}`), Time: 1790000000, Nonce: "ff"}
	if id, err := New("").Identify([]byte(text), server, "s"); err != nil || !reflect.DeepEqual(id, want) {
		t.Errorf("got %+v, %v", id, err)
	}
	odd := `{"server":"` + server + `","attempt":null,"bytes":"many","exit":"0 1","level":7,"time":1.5,"log":null}`
	if id, err := New("").Identify([]byte(odd), server, "s"); err != nil || !reflect.DeepEqual(id, Identity{Server: server}) {
		t.Errorf("odd types: %+v, %v", id, err)
	}
}

func TestOneCipherServesManyCallers(t *testing.T) {
	t.Parallel()
	c := New(password)
	body := c.Seal(identityJSON(t, password, "x"))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				plain, err := c.Open(body)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := c.Identify(plain, server, password, RequireSecret); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func FuzzOpenAndIdentify(f *testing.F) {
	c := New(password)
	f.Add([]byte(`{"data":""}`), []byte(`{"server":"10.0.1.5:3306","log":"a\"b\\"}`))
	f.Add([]byte(`{"data":"AAAAAAAAAAAAAAAAAAAAAA=="}`), []byte("{\"log\":\"\\d \x01\xff\\ud83d\",\"restore\":{\"a\":[\"\t\"]},\"server\":\"10.0.1.5:3306\"}"))
	f.Add([]byte(`{ "data" : "x\n" }`), []byte(`{"log":"x\","server":"10.0.1.5:3306"}`))
	f.Fuzz(func(t *testing.T, body, plain []byte) {
		_, _ = c.Open(body)
		id, err := c.Identify(plain, server, password)
		if err != nil && !reflect.DeepEqual(id, Identity{}) {
			t.Fatal("a refused caller has an identity")
		}
		if id.Restore != nil && !json.Valid(id.Restore) {
			t.Fatalf("restore %q is not JSON", id.Restore)
		}
		// Whatever encoding/json accepts as this object, the scanner reads alike.
		var std struct {
			Log *string `json:"log"`
		}
		if err == nil && json.Unmarshal(plain, &std) == nil && std.Log != nil && bytes.Count(bytes.ToLower(plain), []byte(`log"`)) == 1 &&
			bytes.Contains(plain, []byte(`"log"`)) && *std.Log != id.Log {
			t.Fatalf("log %q, encoding/json %q", id.Log, *std.Log)
		}
		got, err := c.Open(c.Seal(plain))
		if err != nil || !bytes.HasPrefix(plain, got) || len(bytes.Trim(plain[len(got):], "\x01")) > 0 {
			t.Fatalf("%q sealed and opened is %q, %v", plain, got, err)
		}
	})
}

func benchmark(b *testing.B, size int) {
	line := "[00] 2026-11-22 22:24:39 Streaming ./app/\"quoted\".ibd to <STDOUT>\n"
	c := New(password)
	text, err := json.Marshal(map[string]string{"server": server, "secret": password, "level": "DEBUG", "log": strings.Repeat(line, size/len(line))})
	if err != nil {
		b.Fatal(err)
	}
	body := c.Seal(text)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		plain, err := c.Open(body)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Identify(plain, server, password, RequireSecret); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenIdentify500B(b *testing.B) { benchmark(b, 500) }
func BenchmarkOpenIdentify4KB(b *testing.B)  { benchmark(b, 4096) }
