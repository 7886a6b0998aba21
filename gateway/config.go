package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"drydock/bus"
	"drydock/gateway/envelope"
	"drydock/gateway/web"
	"drydock/job"
	"drydock/restore"
	"drydock/scripts"
	"drydock/store"
)

// Config is what a gateway needs. Fields without "optional" are required.
type Config struct {
	Name string // of this gateway as an actor, for example gateway@db-admin-1
	Bind string // optional: address to listen on; empty means all

	HTTPPort int // in clear; 0 means any free port, -1 none
	APIPort  int // TLS; 0 means any free port

	TrustedProxies []netip.Prefix // optional: who is believed about where a caller is (X-Forwarded-For)

	Address    string // where database containers reach the API (monitoring-address)
	Receiver   string // optional: name of the receiver on this host, for clients that stream to the host of the API
	OpenConfig bool   // api-credentials-secure-config is false: S/config needs no credentials and holds no secrets

	MaxConnections int // optional: of both ports together; 0 means [DefaultConnections]

	CertFile, KeyFile string // optional: PEM files; empty means self-signed
	TLSDir            string // where the self-signed certificate is kept

	Users         map[string]string   // password by user name
	Grants        map[string][]string // grant words by user name
	TokenLifetime time.Duration       // optional: 0 means auth.DefaultLifetime

	Clusters []Cluster
	// Check is what the page shows of `drydock check`; optional.
	Check func(context.Context) []web.CheckItem
	// MaxAge is backup-max-age of a cluster as it is now, which the page shows beside the newest backup; optional.
	MaxAge func(cluster string) time.Duration
	// Plan makes the plan of a restore from what the bus knows; optional.
	Plan    func(context.Context, restore.Question) (restore.Plan, error)
	Version string       // optional: shown by /healthz
	Script  []byte       // optional: what an upgrade delivers; nil means scripts.Script()
	Log     *slog.Logger // component and so on are the caller's
	// Porch holds the listeners already; [Gateway.Run] takes them over. Optional: nil has [New] bind them.
	Porch *Porch
}

// Cluster is what the gateway must know of one cluster.
type Cluster struct {
	Name          string
	Servers       []job.Server
	Preferred     []job.Server        // optional: where a logical backup of the cluster is taken from; empty means any
	MaxLag        time.Duration       // of a replica that it is taken from, 0 = any
	BackupServers []job.Server        // optional: where backups of the whole cluster run; empty means all
	User          string              // optional: the database account, to ask a primary before a reseed
	Password      string              // of the database account; it proves the scripts
	Mode          job.Mode            // scheduler-jobs-mode
	AcceptSecret  bool                // api-jobs-accept-secret: in api mode a sealed identity serves without a token
	FreshLogin    time.Duration       // optional: how far the time in a sealed identity may be off; 0 means that old ones serve, too
	LogLevel      string              // optional: least level of lines wanted; empty means INFO
	BatchSize     int                 // optional: lines a call of drydock's own script; 0 means 5
	ReceiverPorts []int               // optional: where the scripts listen, spread over the servers; empty means 4444
	Refuse        map[string]string   // optional: by task, why the configuration makes it impossible
	Grants        map[string][]string // optional: replaces Config.Grants on this cluster for the users it names
}

// Deps are the stores the gateway works on. All are required; the caller runs the view.
type Deps struct {
	Conn    *bus.Conn
	Jobs    *store.Jobs
	Ledger  *store.Ledger
	View    *store.View
	Catalog *store.Catalog
	Docs    *store.Docs
}

// ErrConfig is in the chain of every error of [New] that a change of configuration cures.
var ErrConfig = errors.New("gateway configuration")

// Fixed by taste; nobody ever wanted to configure it.
const defaultBatch = 5

// cluster is a [Cluster] made ready for lookups.
type cluster struct {
	Cluster
	cipher  *envelope.Cipher
	servers map[serverName]int // index in Servers
}

// serverName is a host and port as routes may spell it: folded, without brackets, IP addresses in canonical form.
type serverName struct {
	host string
	port int
}

func nameOf(host string, port int) serverName {
	host = strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.String()
	}
	return serverName{host, port}
}

// find looks a server up by the parts of a route.
func (c *cluster) find(host, port string) (index int, ok bool) {
	p, err := strconv.Atoi(port)
	if err != nil {
		return 0, false
	}
	index, ok = c.servers[nameOf(host, p)]
	return index, ok
}

// receiverPort is where the script of a server listens: the list is spread over the servers (wire.md section 5).
func (c *cluster) receiverPort(index int) int {
	return job.ReceiverPort(c.ReceiverPorts, index)
}

// targets are the servers that a run on the whole cluster means, as the scheduler chooses them.
func (c *cluster) targets(t job.Task) []job.Server {
	if t.Whole {
		return []job.Server{{}}
	}
	if t.Kind == job.KindBackup && len(c.BackupServers) > 0 {
		return c.BackupServers
	}
	return c.Servers
}

func (c Config) withDefaults() (Config, error) {
	if c.Name == "" || c.Log == nil {
		return c, fmt.Errorf("%w: name and log are required", ErrConfig)
	}
	if c.APIPort < 0 || c.APIPort > 65535 || c.HTTPPort < -1 || c.HTTPPort > 65535 {
		return c, fmt.Errorf("%w: ports %d and %d", ErrConfig, c.HTTPPort, c.APIPort)
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return c, fmt.Errorf("%w: a certificate without its key, or a key without its certificate", ErrConfig)
	}
	if c.CertFile == "" && c.TLSDir == "" {
		return c, fmt.Errorf("%w: neither certificate files nor a folder to make one in", ErrConfig)
	}
	if c.Address == "" {
		return c, fmt.Errorf("%w: no address for database containers", ErrConfig)
	}
	if c.Script == nil {
		c.Script = scripts.Script()
	}
	return c, nil
}

// ready checks a cluster and prepares its lookups.
func (c Cluster) ready() (*cluster, error) {
	c.LogLevel = cmp.Or(c.LogLevel, "INFO")
	c.BatchSize = cmp.Or(c.BatchSize, defaultBatch)
	switch {
	case c.Name == "":
		return nil, fmt.Errorf("%w: a cluster without a name", ErrConfig)
	case c.Password == "":
		// Anybody could seal an identity with the empty password.
		return nil, fmt.Errorf("%w: cluster %s has no database password", ErrConfig, c.Name)
	case c.Mode != job.SQL && c.Mode != job.API:
		return nil, fmt.Errorf("%w: cluster %s has mode %q", ErrConfig, c.Name, c.Mode)
	}
	out := &cluster{Cluster: c, cipher: envelope.New(c.Password), servers: map[serverName]int{}}
	for i, s := range c.Servers {
		name := nameOf(s.Host, s.Port)
		if _, twice := out.servers[name]; twice {
			return nil, fmt.Errorf("%w: server %s stands twice in cluster %s", ErrConfig, s, c.Name)
		}
		out.servers[name] = i
	}
	return out, nil
}
