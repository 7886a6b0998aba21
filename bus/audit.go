package bus

import "time"

// AuditOutcome says what became of an act.
type AuditOutcome string

// The outcomes.
const (
	AuditDone    AuditOutcome = "done"
	AuditRefused AuditOutcome = "refused" // not granted, not possible, or wrong credentials
	AuditFailed  AuditOutcome = "failed"  // it broke; whether something was changed is open
)

// The ways in.
const (
	ViaSession = "session" // a token of POST /api/login
	ViaToken   = "token"   // a named API token
	ViaCommand = "command" // a command on a machine that has the configuration
)

// Audit is one act on StreamAudit that changed something or was meant to. It never holds a secret.
type Audit struct {
	Verb    string       `json:"verb"` // what was done, for example run, cancel, hold, user-add
	Outcome AuditOutcome `json:"outcome"`
	User    string       `json:"user,omitempty"` // who; of a command the account on that machine; of a login who it claims to be
	Via     string       `json:"via,omitempty"`
	Token   string       `json:"token,omitempty"`   // id of the API token or of the session
	Address string       `json:"address,omitempty"` // where it came from: an IP address, or of a command the machine's name
	Cluster string       `json:"cluster,omitempty"` // empty: the fleet
	Server  string       `json:"server,omitempty"`  // HOST:PORT
	Target  string       `json:"target,omitempty"`  // the task, job, user, backup or whatever the verb is about
	Detail  string       `json:"detail,omitempty"`  // what exactly, for example the grants
	Reason  string       `json:"reason,omitempty"`  // why, as whoever acted gave it
	Error   string       `json:"error,omitempty"`   // why it was refused or failed
	Jobs    []string     `json:"jobs,omitempty"`    // ids of the jobs that it starts
	// Omitted is how many refused acts before this one were left out, so that a flood does not push the rest out.
	Omitted int       `json:"omitted,omitempty"`
	Actor   string    `json:"actor"` // gateway or command that wrote it
	Type    string    `json:"type"`
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`
}
