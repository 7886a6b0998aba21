// Package auth decides who calls the API and what the caller may do: users and passwords, grants with prefix matching,
// and signed tokens (maintenance.txt section 6.1.7.1, wire.md section 6).
//
// It owns no network and no storage. The key that signs tokens is given to it, so that a token of one gateway serves at
// every other. It never says which part of a credential was wrong.
package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"
)

// The errors. The caller answers both with 401 and adds nothing.
var (
	// ErrCredentials is returned by [Auth.Login] for an unknown user and for a wrong password alike.
	ErrCredentials = errors.New("wrong credentials")
	// ErrToken is returned by [Auth.Verify] for a token that is not ours, is expired, or names a user who is gone.
	ErrToken = errors.New("token not valid")
)

// DefaultLifetime is how long a token is good for when [Config] does not say.
const DefaultLifetime = 12 * time.Hour

// Config says who exists and what they may do.
type Config struct {
	Users  map[string]string   // password by user name (api-credentials)
	Grants map[string][]string // grant words by user name (api-credentials-acl-allow)
	// ClusterGrants replaces Grants on one cluster for the users it names: cluster, user, words.
	ClusterGrants map[string]map[string][]string
	Lifetime      time.Duration    // of a token; 0 means [DefaultLifetime]
	Now           func() time.Time // for tests; nil means [time.Now]
}

// Auth checks credentials and tokens. Safe for concurrent use.
type Auth struct {
	cfg   Config
	key   []byte
	cache cache
}

// New makes an Auth that signs with key, of which 32 bytes at least are wanted.
func New(key []byte, cfg Config) (*Auth, error) {
	if len(key) < 32 {
		return nil, fmt.Errorf("sign tokens: the key has %d bytes, 32 are needed", len(key))
	}
	if cfg.Lifetime < 0 {
		return nil, fmt.Errorf("sign tokens: lifetime %s is negative", cfg.Lifetime)
	}
	if cfg.Lifetime == 0 {
		cfg.Lifetime = DefaultLifetime
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	for name, password := range cfg.Users {
		if name == "" || password == "" {
			return nil, fmt.Errorf("check users: an empty name or password (user %q)", name)
		}
	}
	return &Auth{cfg: cfg, key: key}, nil
}

// Password checks a user's password. Errors: [ErrCredentials].
func (a *Auth) Password(user, password string) (Principal, error) {
	want, known := a.cfg.Users[user]
	x, y := sha256.Sum256([]byte(password)), sha256.Sum256([]byte(want))
	// Both are looked at whatever the other gave: the time must not tell which users exist.
	same := subtle.ConstantTimeCompare(x[:], y[:]) == 1
	if !same || !known {
		return Principal{}, ErrCredentials
	}
	return Principal{Name: user, auth: a}, nil
}

// Login checks a user's password and returns a token. Errors: [ErrCredentials].
func (a *Auth) Login(user, password string) (string, error) {
	if _, err := a.Password(user, password); err != nil {
		return "", err
	}
	return a.sign(claims{User: user})
}

// System returns the token that secret-login answers: the user `system`, who exists on one server of one cluster only.
// server is HOST:PORT.
func (a *Auth) System(cluster, server string) (string, error) {
	return a.sign(claims{User: SystemUser, Cluster: cluster, Server: server})
}
