package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"drydock/bus"
)

// The errors of [Users].
var (
	// ErrNoUser is returned for a user that was not added at run time, or was removed.
	ErrNoUser = errors.New("no such user")
	// ErrUserExists is returned by [Users.Add] for a name that is taken.
	ErrUserExists = errors.New("the user exists already")
	// ErrNoToken is returned for an API token that there is not.
	ErrNoToken = errors.New("no such token")
	// ErrUser is in the chain of an error that says what is wrong with a name, a grant word or a token.
	ErrUser = errors.New("not possible")
)

// User is what the bus knows of a user of the API (bucket drydock_users). Of a user of the configuration it is what
// changes at run time: Epoch, Ended and Tokens; Hash is empty then.
type User struct {
	Name     string              `json:"name"`
	Hash     string              `json:"hash,omitempty"` // of the password, argon2id in PHC form; empty: not added at run time, or removed
	Grants   []string            `json:"grants,omitempty"`
	Clusters map[string][]string `json:"clusters,omitempty"` // replaces Grants on the clusters that it names
	Disabled bool                `json:"disabled,omitempty"`

	Created   time.Time `json:"created,omitzero"`
	CreatedBy string    `json:"created_by,omitempty"`
	Changed   time.Time `json:"changed,omitzero"` // of anything but Ended
	ChangedBy string    `json:"changed_by,omitempty"`
	Removed   bool      `json:"removed,omitempty"`

	// Epoch is part of what sessions are bound to: with another one they are all over.
	Epoch  string  `json:"epoch,omitempty"`
	Ended  []Ended `json:"ended,omitempty"` // sessions that were ended one by one and would go on otherwise
	Tokens []Token `json:"tokens,omitempty"`
}

// AtRunTime reports whether the user was added at run time and is still there.
func (u User) AtRunTime() bool { return u.Hash != "" }

// Info is u without anything secret.
func (u User) Info() UserInfo {
	out := UserInfo{
		Name: u.Name, Grants: u.Grants, Clusters: u.Clusters, Disabled: u.Disabled, Created: u.Created, CreatedBy: u.CreatedBy,
		Changed: u.Changed, ChangedBy: u.ChangedBy, Tokens: []TokenInfo{},
	}
	for _, t := range u.Tokens {
		out.Tokens = append(out.Tokens, t.Info())
	}
	return out
}

// The sources of a user.
const (
	FromConfiguration = "configuration"
	FromBus           = "bus"
)

// UserInfo is a user as people may see it.
type UserInfo struct {
	Name   string `json:"name"`
	Source string `json:"source"` // FromConfiguration or FromBus
	// Hidden says that a user of this name was added at run time, too, and does not count.
	Hidden    bool                `json:"hidden,omitempty"`
	Grants    []string            `json:"grants"`
	Clusters  map[string][]string `json:"clusters,omitempty"`
	Disabled  bool                `json:"disabled,omitempty"`
	Created   time.Time           `json:"created,omitzero"`
	CreatedBy string              `json:"created_by,omitempty"`
	Changed   time.Time           `json:"changed,omitzero"`
	ChangedBy string              `json:"changed_by,omitempty"`
	Tokens    []TokenInfo         `json:"tokens"`
}

const maxWords = 200 // of grants in a list, and of clusters with some of their own

var (
	userName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$`)
	grantWord = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)
)

// systemUser is the user that database hosts become (auth.SystemUser).
const systemUser = "system"

// CheckUserName says what is wrong with the name of a new user. Errors: [ErrUser].
func CheckUserName(name string) error {
	switch {
	case !userName.MatchString(name):
		// The name is not repeated: what was put there by mistake may be the password, and errors go into the audit.
		return fmt.Errorf("%w: a user's name has 1 to 64 letters, digits and . _ @ + -, a letter or digit first", ErrUser)
	case name == systemUser:
		return fmt.Errorf("%w: %s is what the database hosts log in as; choose another name", ErrUser, name)
	}
	return nil
}

// CheckGrants says what is wrong with grant words. Errors: [ErrUser].
func CheckGrants(words []string) error {
	if len(words) > maxWords {
		return fmt.Errorf("%w: %d grant words; %d are the most", ErrUser, len(words), maxWords)
	}
	for _, w := range words {
		if !grantWord.MatchString(w) {
			return fmt.Errorf("%w: grant %q: write a word such as db, db-backup or cluster-hold", ErrUser, w)
		}
	}
	return nil
}

// Users reads and changes the users of the bus. Every change is compare-and-swap, and on disk when it is acknowledged.
// Safe for concurrent use.
type Users struct {
	c    *bus.Conn
	view *UserView
}

// NewUsers works on the bucket drydock_users. view, if not nil, sees this process's own changes at once.
func NewUsers(c *bus.Conn, view *UserView) *Users { return &Users{c, view} }

// All reads every document, those of removed users left out, by name.
func (s *Users) All(ctx context.Context) ([]User, error) {
	last := map[string]User{} // a change may come while we read
	stream, subject := bus.BucketStream(bus.BucketUsers)
	err := bus.Read(ctx, s.c, stream, subject, bus.From{LastPerSubject: true}, func(_ bus.Meta, u User) error {
		last[u.Name] = u
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the users: %w", err)
	}
	var out []User
	for _, u := range last {
		if !u.Removed || len(u.Tokens) > 0 {
			out = append(out, u)
		}
	}
	slices.SortFunc(out, func(a, b User) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Get reads what the bus knows of a user; one that it does not know is empty but for the name.
func (s *Users) Get(ctx context.Context, name string) (User, error) {
	kv, err := s.c.Bucket(ctx, bus.BucketUsers)
	if err != nil {
		return User{}, err
	}
	u, _, err := readControl[User](ctx, kv, bus.UserKey(name))
	u.Name = name
	return u, err
}

// Add makes a user whose password has this hash. Errors: [ErrUserExists], [ErrUser].
func (s *Users) Add(ctx context.Context, name, hash string, grants []string, clusters map[string][]string, by string) (User, error) {
	if err := CheckUserName(name); err != nil {
		return User{}, err
	}
	if err := checkAllGrants(grants, clusters); err != nil {
		return User{}, err
	}
	epoch := newEpoch()
	return s.change(ctx, name, by, func(u *User) error {
		if u.AtRunTime() && u.Hash != hash {
			return fmt.Errorf("%w: %s", ErrUserExists, name)
		}
		// The tokens of a user of this name who is gone are not the new one's.
		*u = User{Name: name, Hash: hash, Grants: grants, Clusters: clusters, Created: now(), CreatedBy: by, Epoch: epoch}
		return nil
	})
}

// Remove ends a user with all sessions and tokens. Errors: [ErrNoUser].
func (s *Users) Remove(ctx context.Context, name, by string) (User, error) {
	var was *User
	_, err := s.change(ctx, name, by, func(u *User) error {
		if !u.AtRunTime() {
			if was != nil {
				return nil // an earlier try did it after all
			}
			return noUser(name)
		}
		before := *u
		was = &before
		*u = User{Name: name, Removed: true}
		return nil
	})
	if err != nil {
		return User{}, err
	}
	return *was, nil
}

// SetPassword gives a user another password and ends the sessions. API tokens go on. Errors: [ErrNoUser].
func (s *Users) SetPassword(ctx context.Context, name, hash, by string) (User, error) {
	return s.changeAtRunTime(ctx, name, by, func(u *User) error {
		if u.Hash != hash {
			u.Hash = hash
			endAll(u)
		}
		return nil
	})
}

// SetDisabled shuts a user out, with sessions and tokens, or lets it in again; the sessions do not come back.
// Errors: [ErrNoUser].
func (s *Users) SetDisabled(ctx context.Context, name string, disabled bool, by string) (User, error) {
	return s.changeAtRunTime(ctx, name, by, func(u *User) error {
		u.Disabled = disabled
		endAll(u)
		return nil
	})
}

// EditGrants lets edit change Grants and Clusters; it may run several times. Errors: [ErrNoUser], [ErrUser], edit's.
func (s *Users) EditGrants(ctx context.Context, name, by string, edit func(*User) error) (User, error) {
	return s.changeAtRunTime(ctx, name, by, func(u *User) error {
		if err := edit(u); err != nil {
			return err
		}
		return checkAllGrants(u.Grants, u.Clusters)
	})
}

// changeAtRunTime is change for what only users have that were added at run time.
func (s *Users) changeAtRunTime(ctx context.Context, name, by string, change func(*User) error) (User, error) {
	return s.change(ctx, name, by, func(u *User) error {
		if !u.AtRunTime() {
			return noUser(name)
		}
		return change(u)
	})
}

// change is edit that remembers who did it.
func (s *Users) change(ctx context.Context, name, by string, change func(*User) error) (User, error) {
	return s.edit(ctx, name, func(u *User) error {
		if err := change(u); err != nil {
			return err
		}
		u.Changed, u.ChangedBy = now(), by
		return nil
	})
}

func (s *Users) edit(ctx context.Context, name string, change func(*User) error) (after User, err error) {
	kv, err := s.c.Bucket(ctx, bus.BucketUsers)
	if err != nil {
		return User{}, err
	}
	revision, err := update(ctx, kv, bus.UserKey(name), func(u *User) (bool, error) {
		u.Name = name
		err := change(u)
		after = *u
		return err == nil, err
	})
	if err != nil {
		return User{}, err
	}
	if s.view != nil {
		s.view.observe(after, revision)
	}
	return after, nil
}

func noUser(name string) error {
	return fmt.Errorf("%w among those added at run time: %q", ErrNoUser, name)
}

func checkAllGrants(grants []string, clusters map[string][]string) error {
	err := CheckGrants(grants)
	if len(clusters) > maxWords {
		err = cmp.Or(err, fmt.Errorf("%w: grants of %d clusters; %d are the most", ErrUser, len(clusters), maxWords))
	}
	for _, words := range clusters {
		err = cmp.Or(err, CheckGrants(words))
	}
	return err
}

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
