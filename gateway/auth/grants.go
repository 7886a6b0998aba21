package auth

import "strings"

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
)

// SystemUser is the user that secret-login provisions (maintenance.txt section 6.1.7.1).
const SystemUser = "system"

var systemWords = []string{"db", "proxy"}

// Principal is a caller whose token is valid.
type Principal struct {
	Name string
	// Cluster and Server ("HOST:PORT") bind the user `system` to the one server whose password it proved; empty for users
	// of the configuration.
	Cluster, Server string

	auth *Auth
}

// Bound reports whether the caller is a database host, which speaks for one server only.
func (p Principal) Bound() bool { return p.Cluster != "" }

// May reports whether the caller has a grant on a server ("HOST:PORT") of a cluster. An empty server asks about the
// cluster as a whole, which a bound caller never may.
func (p Principal) May(cluster, server, grant string) bool {
	if p.Bound() && (p.Cluster != cluster || p.Server != server) {
		return false
	}
	return covers(p.words(cluster), grant)
}

// MayRead reports whether the caller may see a cluster: any grant on it will do. A bound caller sees nothing but its
// own jobs, which the dbjobs routes show it.
func (p Principal) MayRead(cluster string) bool {
	return !p.Bound() && covers(p.words(cluster), "")
}

// MayJobs reports whether the caller has a grant somewhere in the cluster: for the dbjobs routes that name no server.
func (p Principal) MayJobs(cluster string) bool {
	return (!p.Bound() || p.Cluster == cluster) && covers(p.words(cluster), Jobs)
}

func (p Principal) words(cluster string) []string {
	if p.Bound() {
		return systemWords
	}
	if p.auth == nil {
		return nil
	}
	if words, ok := p.auth.cfg.ClusterGrants[cluster][p.Name]; ok {
		return words
	}
	return p.auth.cfg.Grants[p.Name]
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
