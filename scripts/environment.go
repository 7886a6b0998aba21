package scripts

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Variable is one variable of a script's environment.
type Variable struct{ Name, Value string }

// Host is what a script must know to serve one database server.
type Host struct {
	APIHost      string // where the API is reached over HTTPS, IPv6 without brackets
	APIPort      int
	APIUser      string // of the API; the built-in script has no use for it
	APIPassword  string
	Cluster      string
	Server       string // the database server's name and port, as in the configuration
	Port         int
	User         string // of the database
	Password     string
	ReceiverPort int // where the script listens when drydock sends something
}

// The names of the variables that hold secrets.
const (
	EnvAPIUser      = "REPLICATION_MANAGER_USER"
	EnvAPIPassword  = "REPLICATION_MANAGER_PASSWORD"
	EnvPassword     = "REPLICATION_MANAGER_HOST_PASSWORD"
	EnvRootPassword = "MYSQL_ROOT_PASSWORD"
)

// Environment is the block of maintenance.txt section 6.1.5, and what drydock's own script reads besides.
func (h Host) Environment() []Variable {
	port := strconv.Itoa(h.APIPort)
	return []Variable{
		{"REPLICATION_MANAGER_URL", "https://" + net.JoinHostPort(h.APIHost, port)},
		{"REPLICATION_MANAGER_URL_HOST", h.APIHost},
		{"REPLICATION_MANAGER_URL_PORT", port},
		{EnvAPIUser, h.APIUser},
		{EnvAPIPassword, h.APIPassword},
		{"REPLICATION_MANAGER_HOST_NAME", h.Server},
		{"REPLICATION_MANAGER_HOST_PORT", strconv.Itoa(h.Port)},
		{"REPLICATION_MANAGER_HOST_USER", h.User},
		{EnvPassword, h.Password},
		{EnvRootPassword, h.Password},
		{"REPLICATION_MANAGER_CLUSTER_NAME", h.Cluster},
		{"DRYDOCK_API_SCHEME", "https"},
		{"DRYDOCK_RECEIVER_PORT", strconv.Itoa(h.ReceiverPort)},
	}
}

// Exports are the lines that set the variables in a POSIX shell, whatever characters their values hold. Error: a value
// with a zero byte, which no shell can take.
func Exports(env []Variable) ([]byte, error) {
	var b bytes.Buffer
	for _, v := range env {
		if strings.ContainsRune(v.Value, 0) {
			return nil, fmt.Errorf("%s holds a zero byte, which no shell can take", v.Name)
		}
		fmt.Fprintf(&b, "export %s=%s\n", v.Name, Quote(v.Value))
	}
	return b.Bytes(), nil
}

// Quote makes one word of s for a POSIX shell: within single quotes nothing has a meaning but the single quote.
func Quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
