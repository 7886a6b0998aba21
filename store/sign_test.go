package store_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

func signer(t *testing.T) store.Signer {
	t.Helper()
	s, err := store.NewSigner(bustest.Context(t), bustest.Start(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func signedManifest(t *testing.T, s store.Signer) []byte {
	t.Helper()
	m, err := s.Sign(store.Manifest{
		Type: store.ManifestType, ID: "01", Cluster: "prod", Server: job.Server{Host: "db<1>", Port: 3306}, Task: "mariabackup",
		Ended: time.Date(2026, 11, 25, 1, 2, 3, 456, time.UTC), Size: 1<<53 + 1, Hash: "ab", StoredHash: "cd", GTID: "0-1-7",
		Checks: []job.Check{{Name: "size", Held: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestManifestIsVouchedForHoweverItIsSpelled(t *testing.T) {
	t.Parallel()
	s := signer(t)
	raw := signedManifest(t, s)
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		t.Fatal(err)
	}
	var m store.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	again, err := s.Sign(m)
	if err != nil || *again.Signature != *m.Signature {
		t.Errorf("signed again it has another signature: %v", err)
	}
	for name, text := range map[string][]byte{"indented": raw, "compact": compact.Bytes()} {
		got, err := store.VerifyManifest(text, s.Public())
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestEveryChangeOfAManifestShows(t *testing.T) {
	t.Parallel()
	s := signer(t)
	raw := signedManifest(t, s)
	for _, c := range []struct{ from, to string }{
		{`"size": 9007199254740993`, `"size": 9007199254740992`}, // the same as a float
		{`"hash": "ab"`, `"hash": "ac"`},
		{`"gtid": "0-1-7"`, `"gtid": "0-1-8"`},
		{`"held": true`, `"held": false`},
		{`"id": "01"`, `"id": "01", "added": 1`},
		{`.000000456Z`, `.000000457Z`},
	} {
		if !bytes.Contains(raw, []byte(c.from)) {
			t.Fatalf("the manifest does not say %s:\n%s", c.from, raw)
		}
		changed := strings.Replace(string(raw), c.from, c.to, 1)
		if _, err := store.VerifyManifest([]byte(changed), s.Public()); !errors.Is(err, store.ErrSignature) {
			t.Errorf("%s: %v", c.to, err)
		}
	}
}

// Readers must not get what the signature does not cover: a key that stands there twice, or the drills of a file.
func TestNothingUnsignedIsReadFromAManifest(t *testing.T) {
	t.Parallel()
	s := signer(t)
	raw := string(signedManifest(t, s))
	want, err := store.VerifyManifest([]byte(raw), s.Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, added := range []string{
		`"trigger": {"kind": "manual", "by": "evil"},`,
		`"cluster": "test",`,
		`"drills": [{"problem": ""}],`,
		`"archives": [{"snapshot": "evil"}],`,
		`"signature": {"key": "evil", "other": 1},`,
		`"drills": [], "drills": [{"by": "evil"}],`,
	} {
		got, err := store.VerifyManifest([]byte("{"+added+raw[1:]), s.Public())
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", added, got, err)
		}
	}
	for _, added := range []string{`"Trigger": {"by": "evil"},`, `"Drills": [{"problem": ""}],`} { // read as trigger and drills
		if _, err := store.VerifyManifest([]byte("{"+added+raw[1:]), s.Public()); !errors.Is(err, store.ErrSignature) {
			t.Errorf("%s: %v", added, err)
		}
	}
	if _, err := store.VerifyManifest([]byte(raw+`{"cluster": "test"}`), s.Public()); err == nil {
		t.Error("a second document after the manifest is passed over")
	}
}

func TestWhoSignedMatters(t *testing.T) {
	t.Parallel()
	ours, theirs := signer(t), signer(t)
	if _, err := store.VerifyManifest(signedManifest(t, theirs), ours.Public()); !errors.Is(err, store.ErrOtherKey) {
		t.Errorf("signed by another installation: %v", err)
	}
	var m store.Manifest
	if err := json.Unmarshal(signedManifest(t, ours), &m); err != nil {
		t.Fatal(err)
	}
	m.Signature = nil
	raw, _ := json.Marshal(m)
	if _, err := store.VerifyManifest(raw, ours.Public()); !errors.Is(err, store.ErrUnsigned) {
		t.Errorf("without a signature: %v", err)
	}
	if key, err := store.ParsePublicKey(ours.Public().String() + "\n"); err != nil || key.String() != ours.Public().String() {
		t.Errorf("the key does not survive being written down: %v", err)
	}
	for _, bad := range []string{"", "abc", "!!!"} {
		if _, err := store.ParsePublicKey(bad); err == nil {
			t.Errorf("%q is taken for a key", bad)
		}
	}
}

func TestAllPartsOfAnInstallationSignWithOneKey(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t)
	a, err := store.NewSigner(bustest.Context(t), conn)
	if err != nil {
		t.Fatal(err)
	}
	b, err := store.NewSigner(bustest.Context(t), conn)
	if err != nil || a.Public().String() != b.Public().String() {
		t.Errorf("two keys, %v", err)
	}
	if token, err := store.SigningKey(bustest.Context(t), conn); err != nil || strings.Contains(a.Public().String(), string(token)) {
		t.Errorf("the tokens' key: %v", err)
	}
}

// fill gives every field below v a value that is not its zero value: a field that is added later is tried, too.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 11, 25, 1, 2, 3, 4, time.UTC)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		key, below := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(below)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, below)
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Float64:
		v.SetFloat(7.5)
	}
}

// leaves calls each for every value in a JSON document, with a function that puts another one in its place.
func leaves(path string, v any, each func(path string, v any, put func(any))) {
	at := func(key string, below any, put func(any)) {
		switch below.(type) {
		case map[string]any, []any:
			leaves(key, below, each)
		default:
			each(key, below, put)
		}
	}
	switch v := v.(type) {
	case map[string]any:
		for key, below := range v {
			at(path+"."+key, below, func(other any) { v[key] = other })
		}
	case []any:
		for i, below := range v {
			at(path+"[]", below, func(other any) { v[i] = other })
		}
	}
}

// Whoever can write to the backup folder must not change a single field of a manifest unseen, whichever fields there are.
func TestEveryFieldOfAManifestIsSigned(t *testing.T) {
	t.Parallel()
	s := signer(t)
	var m store.Manifest
	fill(reflect.ValueOf(&m).Elem())
	m, err := s.Sign(m)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	want, err := store.VerifyManifest(raw, s.Public())
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	verify := func() (store.Manifest, error) {
		changed, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		return store.VerifyManifest(changed, s.Public())
	}
	tried := 0
	leaves("", doc, func(path string, v any, put func(any)) {
		other := map[string]any{"string": "other", "bool": false, "float64": 8.0}[reflect.TypeOf(v).String()]
		put(other)
		defer put(v)
		got, err := verify()
		switch top, _, _ := strings.Cut(path[1:], "."); strings.TrimSuffix(top, "[]") {
		case "archives", "drills", "verifications", "unverified", "lost", "restores", "pin", "removal": // not covered, and so not read
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v, %v", path, got, err)
			}
		case "signature":
			if err == nil {
				t.Errorf("%s changed: nothing is found", path)
			}
		default:
			tried++
			if !errors.Is(err, store.ErrSignature) {
				t.Errorf("%s changed: %v", path, err)
			}
		}
	})
	if fields := reflect.TypeFor[store.Manifest]().NumField(); tried < fields-7 {
		t.Errorf("%d values were changed, there are %d fields", tried, fields)
	}
	for key, v := range doc {
		delete(doc, key)
		if _, err := verify(); (err == nil) != slices.Contains([]string{"archives", "drills", "verifications", "unverified", "lost", "restores", "pin", "removal"}, key) {
			t.Errorf("%s taken away: %v", key, err)
		}
		doc[key] = v
	}
	if _, err := verify(); err != nil {
		t.Errorf("put back: %v", err)
	}
}
