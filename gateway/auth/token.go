package auth

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// claims is what a token says. Grants are not in it: they are looked up when the token is used, so that a change of the
// configuration holds at once.
type claims struct {
	User    string `json:"sub"`
	Cluster string `json:"cluster,omitempty"`
	Server  string `json:"server,omitempty"`
	Issued  int64  `json:"iat"`
	Expires int64  `json:"exp"`
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

// Verify returns who a token stands for. Errors: [ErrToken].
func (a *Auth) Verify(token string) (Principal, error) {
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
	p := Principal{Name: c.User, Cluster: c.Cluster, Server: c.Server, auth: a}
	if _, known := a.cfg.Users[c.User]; !known && !p.Bound() {
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
