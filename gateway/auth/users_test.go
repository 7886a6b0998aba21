package auth_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/gateway/auth"
	"drydock/store"
)

// directory is a picture of the bus that the test changes.
type directory struct {
	mu    sync.Mutex
	users map[string]store.User
}

func (d *directory) User(name string) (store.User, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	u, ok := d.users[name]
	return u, ok
}

func (d *directory) Token(hash string) (string, store.Token, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, u := range d.users {
		for _, t := range u.Tokens {
			if t.Hash == hash {
				return name, t, true
			}
		}
	}
	return "", store.Token{}, false
}

func (d *directory) put(u store.User) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.users[u.Name] = u
}

func newDirectory(users ...store.User) *directory {
	d := &directory{users: map[string]store.User{}}
	for _, u := range users {
		d.users[u.Name] = u
	}
	return d
}

func hash(t *testing.T, password string) string {
	t.Helper()
	h, err := auth.HashPassword(password)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// A hash that is cheaper than OWASP's least is as good as a password in clear, once the bus's disk is stolen.
func TestPasswordsAreHashedWithArgon2idAtOWASPsCost(t *testing.T) {
	t.Parallel()
	a, b := hash(t, "correct horse"), hash(t, "correct horse")
	if !strings.HasPrefix(a, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Error(a)
	}
	if a == b {
		t.Error("two hashes of a password are equal: the salt is not random")
	}
	for password, why := range map[string]string{"short": "too short", strings.Repeat("x", 1025): "too long", "ten\nletters": "a line break"} {
		if _, err := auth.HashPassword(password); !errors.Is(err, auth.ErrPassword) {
			t.Errorf("%s: %v", why, err)
		} else if strings.Contains(err.Error(), password) {
			t.Error("the error holds the password")
		}
	}
}

// Whoever can write to the bus must not be able to make a login take the machine's memory.
func TestAHashOfAbsurdCostIsNotComputed(t *testing.T) {
	t.Parallel()
	d := newDirectory()
	a := newAuth(t, auth.Config{Directory: d})
	const rest = "$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	for _, bad := range []string{"$argon2id$v=19$m=4194304,t=2,p=1" + rest, "$argon2id$v=19$m=19456,t=4000,p=1" + rest, "$argon2i$v=19$m=19456,t=2,p=1" + rest, "x"} {
		d.put(store.User{Name: "eve", Hash: bad})
		if _, err := a.Login("eve", "whatever it is"); !errors.Is(err, auth.ErrCredentials) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// What ends a session, and what must not.
func TestASessionEndsWithWhatItStandsOn(t *testing.T) {
	t.Parallel()
	first := store.User{Name: "dana", Hash: hash(t, "dana's password"), Grants: []string{"db"}, Epoch: "one"}
	for name, c := range map[string]struct {
		change func(*store.User)
		over   bool
	}{
		"nothing":           {func(*store.User) {}, false},
		"other grants":      {func(u *store.User) { u.Grants = []string{"db-logs"} }, false},
		"another password":  {func(u *store.User) { u.Hash = hash(t, "another password") }, true},
		"the same again":    {func(u *store.User) { u.Hash = hash(t, "dana's password") }, true}, // by a user added anew
		"all sessions over": {func(u *store.User) { u.Epoch = "two" }, true},
		"disabled":          {func(u *store.User) { u.Disabled = true }, true},
		"removed":           {func(u *store.User) { *u = store.User{Name: u.Name, Removed: true} }, true},
	} {
		d := newDirectory(first)
		a := newAuth(t, auth.Config{Directory: d, Users: map[string]string{"admin": "x"}})
		token, err := a.Login("dana", "dana's password")
		if err != nil {
			t.Fatal(err)
		}
		api, text := auth.NewToken("ci", nil, time.Now().Add(time.Hour))
		u := first
		u.Tokens = []store.Token{api}
		c.change(&u)
		d.put(u)
		if _, err := a.Verify(token); (err != nil) != c.over {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := a.Verify(text); (err != nil) != (u.Disabled || u.Removed) {
			t.Errorf("%s: API token: %v", name, err)
		}
	}
}

func TestOneSessionEndsAloneAndTheConfigurationsUsersCanEndTheirs(t *testing.T) {
	t.Parallel()
	d := newDirectory()
	a := newAuth(t, auth.Config{Directory: d, Users: map[string]string{"admin": "x"}})
	var tokens []string
	for range 2 {
		token, err := a.Login("admin", "x")
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, token)
	}
	p, err := a.Verify(tokens[0])
	if err != nil || p.SessionID == "" {
		t.Fatalf("%+v, %v", p, err)
	}
	d.put(store.User{Name: "admin", Ended: []store.Ended{{ID: p.SessionID, Until: p.Expires}}})
	if _, err := a.Verify(tokens[0]); !errors.Is(err, auth.ErrToken) {
		t.Error("the session goes on")
	}
	if _, err := a.Verify(tokens[1]); err != nil {
		t.Error("the other one ended, too")
	}
	d.put(store.User{Name: "admin", Epoch: "two"})
	if _, err := a.Verify(tokens[1]); !errors.Is(err, auth.ErrToken) {
		t.Error("revoking does not reach the configuration's users")
	}
	// A password that was changed in the configuration ends what was given for the old one.
	token, _ := a.Login("admin", "x")
	if _, err := newAuth(t, auth.Config{Directory: d, Users: map[string]string{"admin": "y"}}).Verify(token); !errors.Is(err, auth.ErrToken) {
		t.Error("the session outlives the password in the configuration")
	}
}

func TestTheConfigurationWinsOverAUserOfTheSameName(t *testing.T) {
	t.Parallel()
	d := newDirectory(store.User{Name: "admin", Hash: hash(t, "from the bus"), Grants: []string{"cluster", "db"}})
	a := newAuth(t, auth.Config{Directory: d, Users: map[string]string{"admin": "x"}, Grants: map[string][]string{"admin": {"proxy"}}})
	if _, err := a.Login("admin", "from the bus"); !errors.Is(err, auth.ErrCredentials) {
		t.Error("the bus's password opens the configuration's user")
	}
	p, err := a.Password("admin", "x")
	if err != nil || p.May("prod", "", auth.Backup) || !p.May("prod", "", "proxy") {
		t.Errorf("%+v, %v", p, err)
	}
	if list := a.Config().List([]store.User{d.users["admin"]}); len(list) != 1 || list[0].Source != store.FromConfiguration || !list[0].Hidden {
		t.Errorf("nobody says so: %+v", list)
	}
}

func TestATokenOfAScriptEndsWithTheDatabasePassword(t *testing.T) {
	t.Parallel()
	a := newAuth(t, auth.Config{Secrets: map[string]string{"prod": "old", "test": "old"}})
	token, err := a.System("prod", "db1:3306")
	if err != nil {
		t.Fatal(err)
	}
	for secret, good := range map[string]bool{"old": true, "new": false, "": false} {
		_, err := newAuth(t, auth.Config{Secrets: map[string]string{"prod": secret}}).Verify(token)
		if (err == nil) != good {
			t.Errorf("password %q: %v", secret, err)
		}
	}
	if _, err := a.System("nowhere", "db1:3306"); err == nil {
		t.Error("a token for a cluster without a password")
	}
}

// An API token may what both it and its user may, also when the user's grants change afterwards.
func TestAnAPITokenIsNeverWiderThanItsUser(t *testing.T) {
	t.Parallel()
	now := time.Now()
	tok := func(words ...string) (store.Token, string) { return auth.NewToken("t", words, now.Add(time.Hour)) }
	narrow, narrowText := tok("db-backup", "cluster")
	all, allText := tok()
	wide, wideText := tok("db")
	old, oldText := auth.NewToken("t", nil, now.Add(-time.Second))
	u := store.User{Name: "ci", Hash: "x", Grants: []string{"db-backup-start", "db-logs"}, Clusters: map[string][]string{"prod": {"db-logs"}, "test": {"db"}}, Tokens: []store.Token{narrow, all, wide, old}}
	a := newAuth(t, auth.Config{Directory: newDirectory(u)})
	for _, c := range []struct {
		text, cluster, grant string
		may, read            bool
	}{
		{narrowText, "other", "db-backup-start", true, true},
		{narrowText, "other", auth.Logs, false, true},
		{narrowText, "prod", auth.Backup, false, false}, // db-backup and db-logs have nothing in common
		{narrowText, "test", auth.Backup, true, true},
		{narrowText, "test", auth.Hold, false, true}, // the user has it not
		{allText, "prod", auth.Logs, true, true},
		{allText, "prod", auth.Backup, false, true},
		{wideText, "prod", auth.Logs, true, true},
		{wideText, "prod", auth.Restore, false, true},
	} {
		p, err := a.Verify(c.text)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.May(c.cluster, "", c.grant); got != c.may || p.MayRead(c.cluster) != c.read {
			t.Errorf("%v may %s on %s: %v, reads %v", c, c.grant, c.cluster, got, p.MayRead(c.cluster))
		}
	}
	for _, bad := range []string{oldText, allText + "x", auth.TokenPrefix, auth.TokenPrefix + all.ID, auth.TokenPrefix + all.Hash} {
		if _, err := a.Verify(bad); !errors.Is(err, auth.ErrToken) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// A flood of logins gets two hashes at a time and a line of bounded length, not the machine.
func TestAFloodOfLoginsIsTurnedAwayAndLeavesTheOthersIn(t *testing.T) {
	t.Parallel()
	a := newAuth(t, auth.Config{Users: map[string]string{"admin": "x"}})
	var wg sync.WaitGroup
	var mu sync.Mutex
	count := map[error]int{}
	begin := make(chan struct{})
	for range 300 {
		wg.Go(func() {
			<-begin
			_, err := a.Login("nobody", "guess")
			mu.Lock()
			defer mu.Unlock()
			count[err]++
		})
	}
	close(begin)
	if _, err := a.Login("admin", "x"); err != nil {
		t.Error("the configuration's user waits behind the flood:", err)
	}
	wg.Wait()
	if count[auth.ErrBusy] == 0 || count[auth.ErrCredentials] == 0 || count[auth.ErrBusy]+count[auth.ErrCredentials] != 300 {
		t.Error(count)
	}
}

func TestNobodyHoldsMoreThanHeHas(t *testing.T) {
	t.Parallel()
	a := newAuth(t, auth.Config{
		Users:         map[string]string{"admin": "a", "local": "b"},
		Grants:        map[string][]string{"admin": {"cluster", "db"}, "local": {"cluster", "db"}},
		ClusterGrants: map[string]map[string][]string{"prod": {"local": {"cluster-grant", "db-logs"}}, "lost": {"local": {"db"}}},
	})
	admin, _ := a.Password("admin", "a")
	local, _ := a.Password("local", "b")
	if !admin.MayAll(auth.Users) || local.MayAll(auth.Users) || !local.MayAll("db-logs") {
		t.Error("MayAll does not look at every cluster")
	}
	for _, c := range []struct {
		p        auth.Principal
		grants   []string
		clusters map[string][]string
		want     bool
	}{
		{admin, []string{"db-backup", "cluster-grant"}, nil, true},
		{admin, []string{"prov"}, nil, false},
		{admin, []string{"d"}, nil, false}, // a shorter word covers more
		{admin, []string{"db"}, map[string][]string{"prod": {"prov"}}, false},
		{local, []string{"db-logs"}, nil, true},
		{local, []string{"db"}, nil, false}, // not on prod
		{local, []string{"db"}, map[string][]string{"prod": {"db-logs"}}, true},
		{auth.Principal{}, []string{"db"}, nil, false},
	} {
		if got := c.p.HoldsAll(c.grants, c.clusters); got != c.want {
			t.Errorf("%s holds %v %v: %v", c.p.Name, c.grants, c.clusters, got)
		}
	}
	if system, err := newAuth(t, auth.Config{Secrets: map[string]string{"prod": "x"}}).System("prod", "db1:3306"); err == nil {
		p, _ := newAuth(t, auth.Config{Secrets: map[string]string{"prod": "x"}}).Verify(system)
		if p.MayAll("db") || p.HoldsAll([]string{"db"}, nil) {
			t.Error("a database host passes for a user")
		}
	}
}
