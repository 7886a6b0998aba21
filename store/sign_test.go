package store_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
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
