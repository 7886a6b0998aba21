package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/store"
)

// Directory is what is known of users that were added at run time, and of the tokens and sessions of all.
// [store.UserView] is one.
type Directory interface {
	// User is what the bus knows of a user.
	User(name string) (store.User, bool)
	// Token is the API token with this hash ([TokenHash]), and whose it is.
	Token(hash string) (user string, t store.Token, ok bool)
}

// account is who a name stands for now. A name of the configuration is that one's, whatever was added at run time.
type account struct {
	doc      store.User // what the bus knows of it, may be empty
	fixed    bool       // of the configuration
	password string     // of the configuration; "" for others
}

// account finds a user; false for one that does not exist or is disabled.
func (a *Auth) account(name string) (account, bool) {
	var out account
	if a.cfg.Directory != nil {
		out.doc, _ = a.cfg.Directory.User(name)
	}
	out.password, out.fixed = a.cfg.Users[name]
	return out, out.fixed || out.doc.AtRunTime() && !out.doc.Disabled
}

// words are the grant words on a cluster, "" for those that hold where no cluster has others.
func (x account) words(cfg *Config, name, cluster string) []string {
	if !x.fixed {
		return wordsOf(x.doc.Grants, x.doc.Clusters, cluster)
	}
	if words, ok := cfg.ClusterGrants[cluster][name]; ok && cluster != "" {
		return words
	}
	return cfg.Grants[name]
}

func wordsOf(grants []string, clusters map[string][]string, cluster string) []string {
	if words, ok := clusters[cluster]; ok && cluster != "" {
		return words
	}
	return grants
}

// binding is a keyed digest of everything that a session stands on: with another password, another epoch or another
// user of the same name it is another one, and the session is over, at every gateway.
func (a *Auth) binding(name string, x account) string {
	secret := x.password
	if !x.fixed {
		secret = x.doc.Hash
	}
	return a.digest("user", name, x.doc.Epoch, secret)
}

// systemBinding is the same for the token of a database host: it ends with the database password that it was given for.
func (a *Auth) systemBinding(cluster, server string) (string, bool) {
	secret, ok := a.cfg.Secrets[cluster]
	return a.digest("system", cluster, server, secret), ok && secret != ""
}

// SecretDigest is a keyed digest of a cluster's database password, for [Config.First].
func SecretDigest(key []byte, cluster, secret string) string {
	return digest(key, "first", cluster, secret)
}

func (a *Auth) digest(parts ...string) string { return digest(a.key, parts...) }

// digest is a keyed digest of parts, none of which can run into the next.
func digest(key []byte, parts ...string) string {
	mac := hmac.New(sha256.New, key)
	for _, p := range parts {
		fmt.Fprintf(mac, "%d:%s,", len(p), p)
	}
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
}

// TokenPrefix is what every API token begins with, for people and for scanners of leaked secrets.
const TokenPrefix = "drydock_"

// MaxTokenLifetime is the longest that an API token may be made for.
const MaxTokenLifetime = 5 * 365 * 24 * time.Hour

// NewToken makes an API token for the directory, and the text that its user shows, which is nowhere else.
func NewToken(name string, grants []string, expires time.Time) (t store.Token, text string) {
	secret := make([]byte, 32)
	rand.Read(secret)
	id := strings.ToLower(rand.Text()[:10])
	text = TokenPrefix + id + "_" + base64.RawURLEncoding.EncodeToString(secret)
	return store.Token{ID: id, Name: name, Hash: TokenHash(text), Grants: grants, Expires: expires.UTC().Truncate(time.Second)}, text
}

// TokenHash is what is kept of an API token.
func TokenHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// verifyToken returns who an API token stands for. Errors: [ErrToken].
func (a *Auth) verifyToken(text string) (Principal, error) {
	if a.cfg.Directory == nil {
		return Principal{}, ErrToken
	}
	name, t, ok := a.cfg.Directory.Token(TokenHash(text))
	if !ok || !t.Expires.After(a.cfg.Now()) {
		return Principal{}, ErrToken
	}
	x, ok := a.account(name)
	if !ok {
		return Principal{}, ErrToken
	}
	return Principal{Name: name, TokenID: t.ID, Expires: t.Expires, auth: a, account: &x, token: &t}, nil
}

// MayAll reports whether the caller has a grant on every cluster, those to come included.
func (p Principal) MayAll(grant string) bool {
	return !p.Bound() && p.Holds("", []string{grant}) && !slices.ContainsFunc(p.elsewhere(), func(cluster string) bool {
		return !p.Holds(cluster, []string{grant})
	})
}

// Holds reports whether the caller has all of these grant words on a cluster, "" for where no cluster has others. Nobody
// may give away more.
func (p Principal) Holds(cluster string, words []string) bool {
	return !slices.ContainsFunc(words, func(w string) bool { return !p.covers(cluster, w) })
}

// HoldsAll reports whether the caller has everything that a user with these grants would have.
func (p Principal) HoldsAll(grants []string, clusters map[string][]string) bool {
	if p.Bound() || !p.Holds("", grants) {
		return false
	}
	for cluster, words := range clusters {
		if !p.Holds(cluster, words) {
			return false
		}
	}
	for _, cluster := range p.elsewhere() {
		if !p.Holds(cluster, wordsOf(grants, clusters, cluster)) {
			return false
		}
	}
	return true
}

// elsewhere are the clusters on which the caller has other grants than elsewhere.
func (p Principal) elsewhere() (clusters []string) {
	if p.auth == nil || p.account == nil {
		return nil
	}
	if !p.account.fixed {
		for cluster := range p.account.doc.Clusters {
			clusters = append(clusters, cluster)
		}
		return clusters
	}
	for cluster, users := range p.auth.cfg.ClusterGrants {
		if _, ok := users[p.Name]; ok {
			clusters = append(clusters, cluster)
		}
	}
	return clusters
}

// Fixed reports whether a user stands in the configuration, where nothing can be changed at run time.
func (c Config) Fixed(name string) bool {
	_, ok := c.Users[name]
	return ok
}

// FixedGrants are the grants of a user of the configuration, and those on single clusters.
func (c Config) FixedGrants(name string) (grants []string, clusters map[string][]string) {
	for cluster, users := range c.ClusterGrants {
		if words, ok := users[name]; ok {
			if clusters == nil {
				clusters = map[string][]string{}
			}
			clusters[cluster] = words
		}
	}
	return c.Grants[name], clusters
}

// List joins the users of the configuration with those of the bus, by name.
func (c Config) List(docs []store.User) []store.UserInfo {
	out := []store.UserInfo{}
	seen := map[string]bool{}
	for _, u := range docs {
		if info, ok := c.Info(u); ok {
			out, seen[u.Name] = append(out, info), true
		}
	}
	for name := range c.Users {
		if !seen[name] {
			info, _ := c.Info(store.User{Name: name})
			out = append(out, info)
		}
	}
	slices.SortFunc(out, func(a, b store.UserInfo) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Info is a user as it counts, from what the bus knows of it; false when there is none.
func (c Config) Info(u store.User) (store.UserInfo, bool) {
	info := u.Info()
	info.Source = store.FromBus
	if c.Fixed(u.Name) {
		grants, clusters := c.FixedGrants(u.Name)
		info = store.UserInfo{Name: u.Name, Source: store.FromConfiguration, Hidden: u.AtRunTime(), Grants: grants, Clusters: clusters, Tokens: info.Tokens}
	} else if !u.AtRunTime() {
		return info, false
	}
	if info.Grants == nil {
		info.Grants = []string{}
	}
	return info, true
}

// Managed reports whether somebody may still manage users through the API.
func (c Config) Managed(docs []store.User) bool {
	return slices.ContainsFunc(c.List(docs), func(u store.UserInfo) bool {
		if u.Disabled || !covers(u.Grants, Users) {
			return false
		}
		for _, words := range u.Clusters {
			if !covers(words, Users) {
				return false
			}
		}
		return true
	})
}
