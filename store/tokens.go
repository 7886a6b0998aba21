package store

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"
)

// Token is a named API token. What it may is what its user may and one of Grants covers.
type Token struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Hash    string    `json:"hash"`             // SHA-256 of the token, hex; it has 256 random bits, so no more is needed
	Grants  []string  `json:"grants,omitempty"` // empty: all that its user may
	Created time.Time `json:"created"`
	By      string    `json:"by"`
	Expires time.Time `json:"expires"`
}

// Info is t without its hash.
func (t Token) Info() TokenInfo {
	return TokenInfo{ID: t.ID, Name: t.Name, Grants: t.Grants, Created: t.Created, By: t.By, Expires: t.Expires}
}

// TokenInfo is an API token as people may see it.
type TokenInfo struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Grants  []string  `json:"grants,omitempty"`
	Created time.Time `json:"created"`
	By      string    `json:"by"`
	Expires time.Time `json:"expires"`
}

// MaxTokens is how many API tokens a user may have; those that expired do not count.
const MaxTokens = 50

var tokenName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 ._@/+-]{0,63}$`)

// AddToken gives a user, of the configuration or not, an API token. Errors: [ErrUser].
func (s *Users) AddToken(ctx context.Context, name string, t Token, by string) (User, error) {
	if !tokenName.MatchString(t.Name) {
		return User{}, fmt.Errorf("%w: a token's name has 1 to 64 letters, digits, spaces and . _ @ / + -, a letter or digit first", ErrUser)
	}
	if err := CheckGrants(t.Grants); err != nil {
		return User{}, err
	}
	t.Created, t.By = now(), by
	return s.change(ctx, name, by, func(u *User) error {
		if slices.ContainsFunc(u.Tokens, func(x Token) bool { return x.ID == t.ID }) {
			return nil // an earlier try did it after all
		}
		u.Tokens = slices.DeleteFunc(u.Tokens, func(x Token) bool { return !x.Expires.After(time.Now()) })
		switch {
		case len(u.Tokens) >= MaxTokens:
			return fmt.Errorf("%w: %s has %d tokens already; revoke some", ErrUser, name, MaxTokens)
		case slices.ContainsFunc(u.Tokens, func(x Token) bool { return x.Name == t.Name }):
			return fmt.Errorf("%w: %s has a token %q already; revoke it or choose another name", ErrUser, name, t.Name)
		}
		u.Tokens = append(u.Tokens, t)
		return nil
	})
}

// RemoveToken revokes the API token with this id or name. Errors: [ErrNoToken].
func (s *Users) RemoveToken(ctx context.Context, name, token, by string) (removed Token, err error) {
	_, err = s.change(ctx, name, by, func(u *User) error {
		i := slices.IndexFunc(u.Tokens, func(t Token) bool { return t.ID == token })
		if i < 0 {
			i = slices.IndexFunc(u.Tokens, func(t Token) bool { return t.Name == token })
		}
		switch {
		case i >= 0:
			removed = u.Tokens[i]
			u.Tokens = slices.Delete(u.Tokens, i, i+1)
			return nil
		case removed.ID != "":
			return nil
		}
		return fmt.Errorf("%w: %q of user %s", ErrNoToken, token, name)
	})
	return removed, err
}
