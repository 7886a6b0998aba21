package auth

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// The cost of a hash: OWASP's parameters for argon2id, which take about 30 ms and 19 MiB.
const (
	argonMemory = 19 * 1024 // KiB
	argonPasses = 2
	argonLanes  = 1
	argonSalt   = 16 // bytes
	argonKey    = 32 // bytes
)

// The length of passwords.
const (
	MinPassword = 10   // characters of a new one
	maxPassword = 1024 // bytes
)

// ErrPassword is in the chain of an error that says why a password cannot be taken.
var ErrPassword = errors.New("password not possible")

// ErrBusy is returned when too many passwords wait to be checked already. The caller may try again later.
var ErrBusy = errors.New("too many logins at a time")

// CheckPassword says what is wrong with a new password. Errors: [ErrPassword].
func CheckPassword(password string) error {
	switch n := utf8.RuneCountInString(password); {
	case n < MinPassword:
		return fmt.Errorf("%w: it has %d characters, %d are needed", ErrPassword, n, MinPassword)
	case len(password) > maxPassword:
		return fmt.Errorf("%w: it is longer than %d bytes", ErrPassword, maxPassword)
	case strings.ContainsAny(password, "\r\n\x00"):
		return fmt.Errorf("%w: it has a line break or a zero byte in it", ErrPassword)
	}
	return nil
}

// HashPassword hashes a new password with argon2id and a fresh salt, in PHC form:
// $argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>, base64 without padding. Errors: [ErrPassword].
func HashPassword(password string) (string, error) {
	if err := CheckPassword(password); err != nil {
		return "", err
	}
	salt := make([]byte, argonSalt)
	rand.Read(salt)
	return phc{argonMemory, argonPasses, argonLanes, salt, argon2.IDKey([]byte(password), salt, argonPasses, argonMemory, argonLanes, argonKey)}.String(), nil
}

// phc is a hash and what it was made with.
type phc struct {
	memory, passes uint32
	lanes          uint8
	salt, key      []byte
}

func (h phc) String() string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.passes, h.lanes, b64(h.salt), b64(h.key))
}

// parsePHC reads what [HashPassword] wrote, of this or another version. Costs far beyond ours are refused: a document of
// the bus must not take the machine's memory.
func parsePHC(text string) (h phc, ok bool) {
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return h, false
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.memory, &h.passes, &h.lanes); n != 3 || err != nil {
		return h, false
	}
	var err1, err2 error
	h.salt, err1 = base64.RawStdEncoding.DecodeString(parts[4])
	h.key, err2 = base64.RawStdEncoding.DecodeString(parts[5])
	sane := h.memory >= 8 && h.memory <= 128*1024 && h.passes >= 1 && h.passes <= 10 && h.lanes >= 1 && h.lanes <= 8 &&
		len(h.salt) >= 8 && len(h.key) >= 16 && len(h.key) <= 64
	return h, err1 == nil && err2 == nil && sane && h.String() == text
}

func (h phc) matches(password string) bool {
	got := argon2.IDKey([]byte(password), h.salt, h.passes, h.memory, h.lanes, uint32(len(h.key)))
	return subtle.ConstantTimeCompare(got, h.key) == 1
}

// decoy is checked where there is no hash, so that the time does not tell which users exist.
var decoy = phc{argonMemory, argonPasses, argonLanes, make([]byte, argonSalt), make([]byte, argonKey)}

// atOnce is how many hashes are computed at a time: a flood of logins takes half the processors at most, and 38 MiB.
var atOnce = max(1, min(2, runtime.NumCPU()/2))

const (
	maxInLine = 64              // checks that wait for that
	lineWait  = 3 * time.Second // how long one waits; handlers have five seconds in all
)

// bouncer checks passwords, few at a time.
type bouncer struct {
	turns  chan struct{} // capacity atOnce: who holds one computes
	inLine atomic.Int32
}

func newBouncer() *bouncer { return &bouncer{turns: make(chan struct{}, atOnce)} }

// check compares a password with a hash. Errors: [ErrBusy].
func (b *bouncer) check(password string, h phc) (same bool, err error) {
	if b.inLine.Add(1) > maxInLine {
		b.inLine.Add(-1)
		return false, ErrBusy
	}
	defer b.inLine.Add(-1)
	patience := time.NewTimer(lineWait)
	defer patience.Stop()
	select {
	case b.turns <- struct{}{}:
	case <-patience.C:
		return false, ErrBusy
	}
	defer func() { <-b.turns }()
	return h.matches(password), nil
}

// Hash is [HashPassword] in line with the checks. Errors: [ErrPassword], [ErrBusy].
func (a *Auth) Hash(password string) (string, error) {
	if err := CheckPassword(password); err != nil {
		return "", err
	}
	patience := time.NewTimer(lineWait)
	defer patience.Stop()
	select {
	case a.bouncer.turns <- struct{}{}:
	case <-patience.C:
		return "", ErrBusy
	}
	defer func() { <-a.bouncer.turns }()
	return HashPassword(password)
}
