package store

import (
	"context"
	"crypto/rand"
	"slices"
	"time"
)

// Ended is a session that its user ended.
type Ended struct {
	ID    string    `json:"id"`
	Until time.Time `json:"until"` // when it would have ended anyway
}

// maxEnded is how many sessions a user may end one by one while they would still be good. One more ends all.
const maxEnded = 200

// EndSessions ends all sessions of a user, of the configuration's too, and with tokens also the API tokens.
func (s *Users) EndSessions(ctx context.Context, name string, tokens bool, by string) (User, error) {
	return s.change(ctx, name, by, func(u *User) error {
		endAll(u)
		if tokens {
			u.Tokens = nil
		}
		return nil
	})
}

// EndSession ends one session, which would have gone on until a time.
func (s *Users) EndSession(ctx context.Context, name, id string, until time.Time) error {
	_, err := s.edit(ctx, name, func(u *User) error {
		if slices.ContainsFunc(u.Ended, func(e Ended) bool { return e.ID == id }) {
			return nil
		}
		u.Ended = slices.DeleteFunc(u.Ended, func(e Ended) bool { return !e.Until.After(time.Now()) })
		if len(u.Ended) >= maxEnded {
			endAll(u) // the document stays small, and no session that was ended comes back
			return nil
		}
		u.Ended = append(u.Ended, Ended{id, until})
		return nil
	})
	return err
}

func endAll(u *User) { u.Epoch, u.Ended = newEpoch(), nil }

func newEpoch() string { return rand.Text() }
