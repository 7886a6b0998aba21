package envelope

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
)

// Identity is what a client says about itself and its work: the JSON object inside a sealed body. Only Server is in all
// of them. Members it does not know are ignored, and so is an optional member of an unexpected type.
type Identity struct {
	Server string // "HOST:PORT" as in the route
	Secret string `json:"-"` // the server's password; older clients leave it out of write-log. Never log it

	// write-log (wire.md section 2); older clients leave Level out.
	Level string // of the whole batch, the client's spelling
	Log   string // the lines, joined with newlines; bytes that are not UTF-8 are U+FFFD

	// job-state and heartbeat of drydock's own script.
	Job     string          // drydock's job id
	Attempt int             // from 1
	Bytes   *int64          // bytes the client sent into the stream; nil when it does not say
	SHA256  string          // of those bytes, hex
	Exit    []int           // exit status of each member of the pipeline
	Result  string          // last lines of the tool's output
	Restore json.RawMessage // what a restore was made from (wire.md section 3); nil or valid JSON

	// From drydock's own script, zero from older clients and where there is more than one of them: a spliced text is not told
	// which counts. The nonce makes equal messages look different, a repeated log batch recognisable, and a login fresh.
	Time  int64  // when it was sealed, Unix seconds
	Nonce string // random, hex
}

// String leaves the secret and the texts out, so that an identity that ends in a log line or an error tells no password.
func (id Identity) String() string {
	return fmt.Sprintf("%s job=%s attempt=%d", id.Server, id.Job, id.Attempt)
}

// An Option makes [Cipher.Identify] stricter.
type Option func(*policy)

type policy struct{ secret bool }

// RequireSecret refuses an identity without a secret: for secret-login, whose answer is a token.
func RequireSecret(p *policy) { p.secret = true }

// Identify reads the identity in a plaintext and checks it against the server's "HOST:PORT" and password. The secret may
// be missing (older clients) unless [RequireSecret] is given; one that is there must match. Both are compared in constant
// time, and both are compared whatever the other gave.
//
// The text may be JSON as shell clients build it: raw control bytes, bytes that are not UTF-8 and unknown escapes inside
// strings are kept. It must be one object and nothing after it. The error is always [ErrSealed].
func (c *Cipher) Identify(plaintext []byte, wantServer, password string, opts ...Option) (Identity, error) {
	var p policy
	for _, o := range opts {
		o(&p)
	}
	id, given, err := decodeIdentity(plaintext)
	if err != nil {
		return Identity{}, ErrSealed
	}
	ok := equal(id.Server, wantServer) & (equal(id.Secret, password)&boolInt(given) | boolInt(!given && !p.secret))
	if ok != 1 {
		return Identity{}, ErrSealed
	}
	return id, nil
}

// equal compares digests, so that the time does not tell the length either.
func equal(a, b string) int {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:])
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// decodeIdentity reads an identity and tells whether it had a secret.
//
// A text that fails is read a second time for a client that escaped nothing, whose line may end in a backslash just
// before the closing quote. A client that escapes correctly never fails the first reading, so the second cannot be
// reached by what somebody managed to get logged.
func decodeIdentity(text []byte) (Identity, bool, error) {
	id, given, err := readIdentity(&scanner{src: text})
	if err != nil {
		id, given, err = readIdentity(&scanner{src: text, loose: true})
	}
	return id, given, err
}

func readIdentity(s *scanner) (id Identity, given bool, err error) {
	named, times, nonces := false, 0, 0
	err = s.object(func(key string, v value) error {
		switch key {
		case "server":
			return strict(&id.Server, &named, v)
		case "secret":
			return strict(&id.Secret, &given, v)
		case "level":
			id.Level = v.text()
		case "log":
			id.Log = v.text()
		case "job":
			id.Job = v.text()
		case "attempt":
			id.Attempt = int(v.number())
		case "bytes":
			if n := v.number(); n != 0 || v.plain() == "0" {
				id.Bytes = &n
			}
		case "sha256":
			id.SHA256 = v.text()
		case "exit":
			id.Exit = v.numbers()
		case "result":
			id.Result = v.text()
		case "restore":
			id.Restore = v.raw()
		case "time":
			id.Time = v.number()
			times++
		case "nonce":
			id.Nonce = v.text()
			nonces++
		}
		return nil
	})
	if err == nil && !named {
		err = errSyntax
	}
	if times > 1 {
		id.Time = 0
	}
	if nonces > 1 {
		id.Nonce = ""
	}
	return id, given, err
}

// strict takes a member that decides who the caller is: a string, and only once.
func strict(to *string, seen *bool, v value) error {
	if !v.quoted() || *seen {
		return errSyntax
	}
	*to, *seen = v.text(), true
	return nil
}
