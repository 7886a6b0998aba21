package store

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"drydock/bus"
)

// Signature vouches for a [Manifest]: nobody without the installation's key wrote it or changed it since. It covers the
// manifest's JSON in canonical form (keys sorted, no white space) without the fields of [unsigned].
type Signature struct {
	Key   string `json:"key"`   // Ed25519 public key, base64
	Value string `json:"value"` // base64
}

// unsigned are the fields that the signature does not cover: itself, and what changes after the backup was made.
var unsigned = []string{"signature", "archives", "drills", "verifications", "unverified", "lost", "restores", "pin", "removal"}

// The ways in which a manifest is not vouched for.
var (
	// ErrUnsigned: it has no signature. drydock signs every manifest, so somebody took it away, or an old version wrote it.
	ErrUnsigned = errors.New("the manifest is not signed")
	// ErrOtherKey: another installation signed it. Give that one's public key if it is to be trusted.
	ErrOtherKey = errors.New("the manifest is signed with another key")
	// ErrSignature: it was changed after it was signed.
	ErrSignature = errors.New("the manifest is not what was signed")
)

// Signer signs manifests with the key of the installation.
type Signer struct{ key ed25519.PrivateKey }

// NewSigner reads the installation's key from the bus; whoever comes first makes it.
func NewSigner(ctx context.Context, c *bus.Conn) (Signer, error) {
	seed, err := sharedKey(ctx, c, manifestKey)
	if err != nil {
		return Signer{}, err
	}
	if len(seed) != ed25519.SeedSize {
		return Signer{}, fmt.Errorf("read the key %q: it has %d bytes, not %d", manifestKey, len(seed), ed25519.SeedSize)
	}
	return Signer{ed25519.NewKeyFromSeed(seed)}, nil
}

// Public is the key that [VerifyManifest] asks for.
func (s Signer) Public() PublicKey {
	pub, _ := s.key.Public().(ed25519.PublicKey) // always one
	return PublicKey(pub)
}

// Sign returns m with its signature. The same manifest gets the same one every time.
func (s Signer) Sign(m Manifest) (Manifest, error) {
	m.Signature = nil
	var err error
	m.Signature, err = s.sign(m, m.ID)
	return m, err
}

// sign gives the signature of a document that has none yet.
func (s Signer) sign(doc any, id string) (*Signature, error) {
	raw, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode manifest %s: %w", id, err)
	}
	text, _, err := canonical(raw, unsigned)
	if err != nil {
		return nil, fmt.Errorf("sign manifest %s: %w", id, err)
	}
	return &Signature{
		Key: s.Public().String(), Value: base64.StdEncoding.EncodeToString(ed25519.Sign(s.key, text)),
	}, nil
}

// PublicKey is the public half of an installation's key.
type PublicKey ed25519.PublicKey

// String is the key in base64, as [ParsePublicKey] reads it.
func (k PublicKey) String() string { return base64.StdEncoding.EncodeToString(k) }

// ParsePublicKey reads a key as [PublicKey.String] writes it; white space around it is passed over.
func ParsePublicKey(text string) (PublicKey, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, errors.New("not a public key: want 44 characters as `drydock backups key` prints them")
	}
	return PublicKey(raw), nil
}

// VerifyManifest is the manifest that the signature of raw vouches for, if the key of the installation that is trusted made
// it. It is read from the signed text: what raw says twice, or without a signature, is not in it. The version of drydock
// that wrote it may have known other fields. Errors: [ErrUnsigned], [ErrOtherKey], [ErrSignature].
func VerifyManifest(raw []byte, trusted PublicKey) (Manifest, error) {
	text, sig, err := signedText(raw, trusted, unsigned, "")
	if err != nil {
		return Manifest{}, err
	}
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return Manifest{}, fmt.Errorf("decode manifest: %w", err)
	}
	m.Signature = sig
	return m, nil
}

// signedText is what the signature of raw, of all but the fields named and behind the domain, vouches for. Errors: [ErrUnsigned], [ErrOtherKey], [ErrSignature], [bus.ErrNewer].
func signedText(raw []byte, trusted PublicKey, without []string, domain string) (text []byte, sig *Signature, err error) {
	if err := bus.CheckVersion(raw); err != nil {
		return nil, nil, err // also of a signature nobody can say anything then
	}
	text, sig, err = canonical(raw, without)
	if err != nil {
		return nil, nil, err
	}
	if sig == nil {
		return nil, nil, ErrUnsigned
	}
	if subtle.ConstantTimeCompare([]byte(sig.Key), []byte(trusted.String())) != 1 {
		return nil, nil, ErrOtherKey
	}
	value, err := base64.StdEncoding.DecodeString(sig.Value)
	if err != nil || !ed25519.Verify(ed25519.PublicKey(trusted), append([]byte(domain), text...), value) {
		return nil, nil, ErrSignature
	}
	return text, &Signature{Key: trusted.String(), Value: base64.StdEncoding.EncodeToString(value)}, nil
}

// canonical is what a signature covers, which is all of raw but the fields named, and the signature that came with it. Of a key that stands there twice the last one
// counts. Numbers keep their spelling: a reader that does not know a field must not round it.
func canonical(raw []byte, without []string) (text []byte, sig *Signature, err error) {
	if !json.Valid(raw) { // the decoder below does not look at what follows the document
		return nil, nil, errors.New("decode manifest: not one JSON document")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var fields map[string]any
	if err := dec.Decode(&fields); err != nil {
		return nil, nil, fmt.Errorf("decode manifest: %w", err)
	}
	sig = signatureOf(fields)
	for _, name := range without {
		delete(fields, name)
	}
	text, err = json.Marshal(fields) // sorts the keys
	return text, sig, err
}

// signatureOf is nil when there is none.
func signatureOf(fields map[string]any) *Signature {
	sig, ok := fields["signature"].(map[string]any)
	if !ok {
		return nil
	}
	key, _ := sig["key"].(string)
	value, _ := sig["value"].(string)
	return &Signature{Key: key, Value: value}
}
