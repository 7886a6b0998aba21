package sshrun

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"drydock/calendar"
	"drydock/job"
)

// Config is what a runner works from.
type Config struct {
	DataDir string // monitoring-datadir
	// APIHost and APIPort are where the scripts reach drydock's API over HTTPS (monitoring-address, api-port).
	APIHost     string
	APIPort     int
	APIUser     string // first user of api-credentials; the built-in script has no use for it
	APIPassword string
	Concurrency int // sessions of this process at a time (scheduler-jobs-ssh-max-sessions)
	Clusters    []Cluster
	Log         *slog.Logger // nil: nothing is logged
}

// Cluster is one cluster whose hosts are reached over SSH.
type Cluster struct {
	Name          string
	Servers       []job.Server
	User          string // of the database (db-servers-credential)
	Password      string
	ReceiverPorts []int // scheduler-db-servers-receiver-ports, at least one, spread over the servers

	Enabled bool           // off: no tick comes
	Spec    string         // scheduler-jobs-ssh-cron
	Zone    *time.Location // of Spec
	Timeout time.Duration  // of one session (scheduler-jobs-ssh-timeout)
	Login   Login
	Script  string // onpremise-ssh-db-job-script, a file here; empty: the built-in script
}

// Login is how to log in to a database host.
type Login struct {
	Port       int // onpremise-ssh-port
	User       string
	Password   string // empty: key only
	KeyFile    string // onpremise-ssh-private-key; empty: password only
	KnownHosts string // onpremise-ssh-known-hosts; empty: ~/.ssh/known_hosts
}

// knownHosts is the file of host keys.
func (l Login) knownHosts() (string, error) {
	if l.KnownHosts != "" {
		return l.KnownHosts, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find ~/.ssh/known_hosts: %w; set onpremise-ssh-known-hosts", err)
	}
	return filepath.Join(home, ".ssh", "known_hosts"), nil
}

// host is one SSH server. Several database servers may live there.
type host struct {
	name string
	port int
}

func (h host) String() string { return net.JoinHostPort(h.name, strconv.Itoa(h.port)) }

// target is one database server and how to get there.
type target struct {
	cluster *Cluster
	server  job.Server
}

func (t target) host() host { return host{t.server.Host, t.cluster.Login.Port} }

// key names a target over reloads of the configuration.
func (t target) key() targetKey { return targetKey{t.cluster.Name, t.server} }

type targetKey struct {
	cluster string
	server  job.Server
}

// schedule is a cluster with its calendar.
type schedule struct {
	cluster  *Cluster
	calendar *calendar.Calendar
}

// schedules checks the configuration and gives the clusters that are on.
func (c Config) schedules() ([]schedule, error) {
	if c.Concurrency < 1 {
		return nil, fmt.Errorf("configure the ssh runner: %d sessions at a time", c.Concurrency)
	}
	var out []schedule
	for i := range c.Clusters {
		cl := &c.Clusters[i]
		if !cl.Enabled {
			continue
		}
		cal, err := cl.check(c)
		if err != nil {
			return nil, fmt.Errorf("configure the ssh runner: cluster %q: %w", cl.Name, err)
		}
		out = append(out, schedule{cl, cal})
	}
	return out, nil
}

func (c Cluster) check(all Config) (*calendar.Calendar, error) {
	switch {
	case len(c.ReceiverPorts) == 0:
		return nil, errors.New("no receiver port")
	case c.Login.User == "" || c.Login.Password == "" && c.Login.KeyFile == "":
		return nil, errors.New("no SSH user, or neither a password nor a key for it")
	case c.Timeout <= 0:
		return nil, errors.New("no timeout")
	case all.APIHost == "" || all.APIPort == 0:
		return nil, errors.New("the address of the API is not known")
	}
	return calendar.Parse(c.Spec, c.Zone)
}
