// Package auth decides who calls the API and what the caller may do: users and passwords, grants with prefix matching,
// and signed tokens (maintenance.txt section 6.1.7.1, wire.md section 6).
//
// It owns no network and no storage. The key that signs tokens is given to it, so that a token of one gateway serves at
// every other, and so is what is known of users that were added at run time. It never says which part of a credential was wrong.
package auth

import (
	"crypto/rand"
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
	// ErrToken is returned by [Auth.Verify] for a token that is not ours, is expired or revoked, or names a user who is gone
	// or has another password now.
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
	// Directory knows the users that were added at run time; nil means none.
	Directory Directory
	// Secrets are the database passwords by cluster: what [Auth.System] hands out ends with them.
	Secrets map[string]string
	// First are the digests ([SecretDigest]) by cluster of the passwords that were in force when a drydock that binds tokens to them
	// came. A token that an earlier one gave out is good for that password only.
	First    map[string]string
	Lifetime time.Duration    // of a token; 0 means [DefaultLifetime]
	Now      func() time.Time // for tests; nil means [time.Now]
}

// Auth checks credentials and tokens. Safe for concurrent use.
type Auth struct {
	cfg     Config
	key     []byte
	cache   cache
	bouncer *bouncer
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
	return &Auth{cfg: cfg, key: key, bouncer: newBouncer()}, nil
}

// Password checks a user's password. Errors: [ErrCredentials], [ErrBusy].
func (a *Auth) Password(user, password string) (Principal, error) {
	x, known := a.account(user)
	if x.fixed {
		want, got := sha256.Sum256([]byte(x.password)), sha256.Sum256([]byte(password))
		if subtle.ConstantTimeCompare(want[:], got[:]) == 1 {
			return Principal{Name: user, auth: a, account: &x}, nil
		}
		known = false
	}
	if len(password) > maxPassword {
		return Principal{}, ErrCredentials
	}
	// A hash is computed whoever it is: the time must not tell which users exist, nor which are the configuration's.
	hash, ok := parsePHC(x.doc.Hash)
	if !known || !ok {
		known, hash = false, decoy
	}
	same, err := a.bouncer.check(password, hash)
	switch {
	case err != nil:
		return Principal{}, err
	case !same || !known:
		return Principal{}, ErrCredentials
	}
	return Principal{Name: user, auth: a, account: &x}, nil
}

// Login checks a user's password and returns a token. Errors: [ErrCredentials], [ErrBusy].
func (a *Auth) Login(user, password string) (string, error) {
	p, err := a.Password(user, password)
	if err != nil {
		return "", err
	}
	token, _, err := a.Session(p)
	return token, err
}

// Session begins a session of a user whose password was checked: its token, and the caller as the token shows it.
// Errors: [ErrToken] for anybody else.
func (a *Auth) Session(p Principal) (string, Principal, error) {
	if p.account == nil || p.token != nil || p.SessionID != "" {
		return "", Principal{}, ErrToken
	}
	p.SessionID = rand.Text()
	token, err := a.sign(claims{User: p.Name, ID: p.SessionID, Binding: a.binding(p.Name, *p.account)})
	if err != nil {
		return "", Principal{}, err
	}
	return token, p, nil
}

// Config is what a works with.
func (a *Auth) Config() Config { return a.cfg }

// System returns the token that secret-login answers: the user `system`, who exists on one server of one cluster only.
// server is HOST:PORT. It ends with the database password of the cluster. Errors: a cluster without one.
func (a *Auth) System(cluster, server string) (string, error) {
	binding, ok := a.systemBinding(cluster, server)
	if !ok {
		return "", fmt.Errorf("sign token: cluster %q has no database password", cluster)
	}
	return a.sign(claims{User: SystemUser, Cluster: cluster, Server: server, ID: rand.Text(), Binding: binding})
}
