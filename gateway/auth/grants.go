package auth

import (
	"slices"
	"strings"
	"time"

	"drydock/store"
)

// The grants that drydock asks for. A word of a user covers every grant that starts with it (wire.md section 6).
const (
	Jobs        = "db-jobs"        // the dbjobs routes: needs, receive-task, job-state, write-log, ...
	Backup      = "db-backup"      // start and cancel backups
	Restore     = "db-restore"     // start and cancel reseeds, flashbacks and rolling reprovisionings
	Logs        = "db-logs"        // start and cancel the collection of logs
	Maintenance = "db-maintenance" // start and cancel work on tables
	Stop        = "db-stop"        // stop servers
	Start       = "db-start"       // start servers
	Restart     = "db-restart"     // restart servers, also one after the other
	Tarball     = "db-config"      // fetch the archive for a database container, with the database password in it
	Hold        = "cluster-hold"   // set and lift holds and blackouts, run a task in spite of one, and acknowledge conditions
	Users       = "cluster-grant"  // manage users and what they may do
	Audit       = "cluster-audit"  // read who changed what
)

// Grants are all of them.
var Grants = []string{Jobs, Backup, Restore, Logs, Maintenance, Stop, Start, Restart, Tarball, Hold, Users, Audit}

// SystemUser is the user that secret-login provisions (maintenance.txt section 6.1.7.1).
const SystemUser = "system"

var systemWords = []string{"db", "proxy"}

// Principal is a caller whose token is valid.
type Principal struct {
	Name string
	// Cluster and Server ("HOST:PORT") bind the user `system` to the one server whose password it proved; empty for users.
	Cluster, Server string
	SessionID       string    // of the login that the token comes from; empty for an API token and for a password
	TokenID         string    // of the API token
	Expires         time.Time // of the token, zero for a password

	auth    *Auth
	account *account     // nil when bound
	token   *store.Token // of an API token
}

// Bound reports whether the caller is a database host, which speaks for one server only.
func (p Principal) Bound() bool { return p.Cluster != "" }

// Narrowed reports whether the caller has an API token that may do less than its user.
func (p Principal) Narrowed() bool { return p.token != nil && len(p.token.Grants) > 0 }

// May reports whether the caller has a grant on a server ("HOST:PORT") of a cluster. An empty server asks about the
// cluster as a whole, which a bound caller never may.
func (p Principal) May(cluster, server, grant string) bool {
	if p.Bound() && (p.Cluster != cluster || p.Server != server) {
		return false
	}
	return p.covers(cluster, grant)
}

// MayRead reports whether the caller may see a cluster: any grant on it will do. A bound caller sees nothing but its
// own jobs, which the dbjobs routes show it.
func (p Principal) MayRead(cluster string) bool {
	return !p.Bound() && p.covers(cluster, "")
}

// MayJobs reports whether the caller has a grant somewhere in the cluster: for the dbjobs routes that name no server.
func (p Principal) MayJobs(cluster string) bool {
	return (!p.Bound() || p.Cluster == cluster) && p.covers(cluster, Jobs)
}

// covers reports whether the caller's words on a cluster cover a grant, and those of its API token, too.
func (p Principal) covers(cluster, grant string) bool {
	switch {
	case p.Bound():
		return covers(systemWords, grant)
	case p.auth == nil || p.account == nil:
		return false
	}
	words := p.account.words(&p.auth.cfg, p.Name, cluster)
	if p.token == nil || len(p.token.Grants) == 0 {
		return covers(words, grant)
	}
	if grant != "" {
		return covers(words, grant) && covers(p.token.Grants, grant)
	}
	return slices.ContainsFunc(p.token.Grants, func(w string) bool { return meet(words, w) })
}

// meet reports whether some grant is covered by one of the words and by other.
func meet(words []string, other string) bool {
	return slices.ContainsFunc(words, func(w string) bool {
		return w != "" && (strings.HasPrefix(w, other) || strings.HasPrefix(other, w))
	})
}

// covers reports whether one of the words is a prefix of grant; every word covers the empty grant. An empty word, which
// would cover everything, covers nothing.
func covers(words []string, grant string) bool {
	for _, w := range words {
		if w != "" && (grant == "" || strings.HasPrefix(grant, w)) {
			return true
		}
	}
	return false
}
