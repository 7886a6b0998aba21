package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"drydock/store"
)

// claims is what a token says. Grants are not in it: they are looked up when the token is used, so that a change of the
// configuration holds at once.
type claims struct {
	User    string `json:"sub"`
	Cluster string `json:"cluster,omitempty"`
	Server  string `json:"server,omitempty"`
	Issued  int64  `json:"iat"`
	Expires int64  `json:"exp"`
	ID      string `json:"jti"`
	// Binding ties the token to the password that it was given for ([Auth.binding]).
	Binding string `json:"bnd"`
}

// claims implements [jwt.Claims] by what it has; drydock's tokens know no audience, issuer or start time.
func (c claims) GetExpirationTime() (*jwt.NumericDate, error) {
	return jwt.NewNumericDate(time.Unix(c.Expires, 0)), nil
}
func (c claims) GetIssuedAt() (*jwt.NumericDate, error) {
	return jwt.NewNumericDate(time.Unix(c.Issued, 0)), nil
}
func (c claims) GetNotBefore() (*jwt.NumericDate, error) { return nil, nil }
func (c claims) GetIssuer() (string, error)              { return "", nil }
func (c claims) GetSubject() (string, error)             { return c.User, nil }
func (c claims) GetAudience() (jwt.ClaimStrings, error)  { return nil, nil }

// systemLifetime is how long a script's token is good at least. Shell clients log in once, when they start, and cannot
// log in again in the middle of a backup: the token must outlive the longest one.
const systemLifetime = 7 * 24 * time.Hour

func (a *Auth) sign(c claims) (string, error) {
	now, lifetime := a.cfg.Now(), a.cfg.Lifetime
	if c.Server != "" {
		lifetime = max(lifetime, systemLifetime)
	}
	c.Issued, c.Expires = now.Unix(), now.Add(lifetime).Unix()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(a.key)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return token, nil
}

// Verify returns who a token stands for: one of a login or an API token. Errors: [ErrToken].
func (a *Auth) Verify(token string) (Principal, error) {
	if strings.HasPrefix(token, TokenPrefix) {
		return a.verifyToken(token)
	}
	c, ok := a.cache.get(token)
	if !ok {
		_, err := jwt.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return a.key, nil },
			jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithExpirationRequired(), jwt.WithTimeFunc(a.cfg.Now))
		if err != nil {
			return Principal{}, ErrToken
		}
		a.cache.put(token, c)
	}
	if c.Expires <= a.cfg.Now().Unix() {
		return Principal{}, ErrToken
	}
	p := Principal{Name: c.User, Cluster: c.Cluster, Server: c.Server, SessionID: c.ID, Expires: time.Unix(c.Expires, 0), auth: a}
	if p.Bound() {
		want, known := a.systemBinding(c.Cluster, c.Server)
		return checked(p, known && (same(want, c.Binding) || c.unbound() && a.unchanged(c.Cluster)))
	}
	x, known := a.account(c.User)
	p.account = &x
	over := slices.ContainsFunc(x.doc.Ended, func(e store.Ended) bool { return e.ID == c.ID })
	return checked(p, known && !over && same(a.binding(c.User, x), c.Binding))
}

// unbound tells the token of a database host that a drydock gave out which did not bind tokens to the password yet: a script that
// was in the middle of a backup when drydock was upgraded logs in once only, and must come to its end. No token has been made
// like that since, so the last of them ends with its own time, [systemLifetime] after the upgrade or the lifetime that was configured,
// or with the password that was in force at the upgrade ([Auth.unchanged]).
func (c claims) unbound() bool {
	return c.User == SystemUser && c.Binding == "" && c.ID == ""
}

// unchanged reports whether a cluster has the password that it had when tokens began to be bound to it.
func (a *Auth) unchanged(cluster string) bool {
	return same(a.cfg.First[cluster], SecretDigest(a.key, cluster, a.cfg.Secrets[cluster]))
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func checked(p Principal, good bool) (Principal, error) {
	if !good {
		return Principal{}, ErrToken
	}
	return p, nil
}

// cache remembers tokens whose signature was checked: a script sends the same one with every call. The zero value is
// empty. Only the signature is remembered; times and users are looked at each time.
type cache struct {
	mu   sync.RWMutex
	seen map[[sha256.Size]byte]claims
}

const cacheMax = 4096 // tokens; beyond it the cache starts anew, which costs 7 microseconds a token

func (c *cache) get(token string) (claims, bool) {
	sum := sha256.Sum256([]byte(token))
	c.mu.RLock()
	defer c.mu.RUnlock()
	got, ok := c.seen[sum]
	return got, ok
}

func (c *cache) put(token string, cl claims) {
	sum := sha256.Sum256([]byte(token))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil || len(c.seen) >= cacheMax {
		c.seen = make(map[[sha256.Size]byte]claims)
	}
	c.seen[sum] = cl
}
