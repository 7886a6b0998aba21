package app

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/nats-io/nats.go"

	"drydock/bus"
	"drydock/config"
	"drydock/job"
	"drydock/receiver/archive"
	"drydock/scheduler/local"
)

// Status is the outcome of one checked item.
type Status string

// The outcomes.
const (
	OK   Status = "OK"
	Warn Status = "WARN"
	Fail Status = "FAIL"
)

// Item is one line of [Check].
type Item struct {
	Status Status `json:"status"`
	Name   string `json:"name"`
	Detail string `json:"detail"`         // what was found
	Hint   string `json:"hint,omitempty"` // what to do about it
}

const (
	checkTimeout = 5 * time.Second
	lowSpace     = 1 << 30 // bytes
	// archiveTimeout is longer: a key is derived from the password, and the repository may be far away.
	archiveTimeout = 30 * time.Second
)

// Check looks at the configuration, this machine and every server, and changes nothing: data folder, open files, ports, the
// advertised address, the bus, and per server the login and the privileges that drydock needs.
func Check(ctx context.Context, cfg *config.Config) []Item {
	items := []Item{{OK, "configuration", fmt.Sprintf("%s: %d clusters", cfg.File, len(cfg.Clusters)), ""}}
	for _, w := range cfg.Warnings {
		items = append(items, Item{Warn, "configuration", w.String(), ""})
	}
	if len(cfg.Ignored) > 0 {
		items = append(items, Item{Warn, "configuration", "passed over: " + keysOf(cfg.Ignored), "these keys of replication-manager do nothing here; see docs/configuration.md"})
	}
	items = append(items, checkDatadir(cfg))
	items = append(items, checkAddress(cfg), checkOpenFiles(cfg))
	ours, live, busItem := checkBus(ctx, cfg)
	items = append(items, busItem)
	items = append(items, checkDisks(ctx, cfg)...)
	items = append(items, checkPorts(cfg, ours)...)
	items = append(items, checkTLS(cfg)...)
	items = append(items, checkNotifications(cfg)...)
	for _, c := range cfg.Clusters {
		items = append(items, checkSchedules(c))
		items = append(items, checkSwitches(c, live, time.Now())...)
		items = append(items, checkArchive(ctx, cfg, c)...)
		items = append(items, checkOrchestrator(cfg, c)...)
		items = append(items, checkHooks(c)...)
		items = append(items, checkDumpTool(c)...)
		items = append(items, checkServers(ctx, cfg, c)...)
	}
	return items
}

func keysOf(notes []config.Note) string {
	var keys []string
	for _, n := range notes {
		if !slices.Contains(keys, n.Key) {
			keys = append(keys, n.Key)
		}
	}
	return strings.Join(keys, ", ")
}

func checkDatadir(cfg *config.Config) Item {
	dir := cfg.Global.Datadir
	it := Item{Fail, "monitoring-datadir", dir, "create it, owned by the user that runs drydock, mode 0700"}
	probe := dir
	for {
		if _, err := os.Stat(probe); err == nil || probe == filepath.Dir(probe) {
			break
		}
		probe = filepath.Dir(probe) // it will be made at start: look at where
	}
	if err := syscall.Access(probe, 2 /* W_OK */); err != nil {
		it.Detail = fmt.Sprintf("%s is not writable: %v", probe, err)
		return it
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(probe, &st); err != nil {
		it.Detail = err.Error()
		return it
	}
	free := int64(st.Bavail) * st.Bsize
	it = Item{OK, "monitoring-datadir", fmt.Sprintf("%s: %d MiB free", dir, free>>20), ""}
	if free < lowSpace {
		it.Status, it.Hint = Warn, "backups and the bus need room: free some space"
	}
	return it
}

func checkAddress(cfg *config.Config) Item {
	a, err := cfg.Global.AdvertisedAddress()
	if err != nil {
		return Item{Fail, "monitoring-address", err.Error(), "set it to the address that the database hosts reach"}
	}
	if ip := net.ParseIP(a); ip != nil && ip.IsLoopback() {
		return Item{Warn, "monitoring-address", a, "only database servers on this machine can stream to it"}
	}
	return Item{OK, "monitoring-address", a, ""}
}

// checkBus says whether a drydock runs with this configuration; it is no fault if none does. held says that the ports
// may be in use by it, live are the schedules as its scheduler has them.
func checkBus(ctx context.Context, cfg *config.Config) (held bool, live []bus.ScheduleInfo, it Item) {
	conn, err := Dial(ctx, cfg, quietLog())
	switch {
	case err == nil:
		defer conn.NC.Close()
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		rep, err := bus.Request[bus.NextReply](ctx, conn, bus.SubjectNext, struct{}{})
		if err != nil {
			return true, nil, Item{Warn, "bus", "answers, but no scheduler does", "start a process with the role scheduler"}
		}
		return true, rep.Schedules, Item{OK, "bus", "drydock is running", ""}
	case cfg.Global.NATS.URL != "":
		return false, nil, Item{Fail, "bus", err.Error(), "is the NATS server of nats-url up, and are nats-user and nats-password right?"}
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, os.ErrNotExist), errors.Is(err, nats.ErrNoServers):
		return false, nil, Item{OK, "bus", "not running; `drydock serve` starts it", ""}
	default:
		return true, nil, Item{Warn, "bus", err.Error(), "run the check as the user that runs drydock"}
	}
}

// checkPorts tries to bind what drydock would bind, unless a running drydock may hold it.
func checkPorts(cfg *config.Config, held bool) (items []Item) {
	g := cfg.Global
	if held {
		return []Item{{OK, "ports", "not tried: a running drydock holds them", ""}}
	}
	try := func(name, host string, port int) {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			items = append(items, Item{Fail, name, err.Error(), "choose another port or stop what uses it (ss -ltnp)"})
			return
		}
		_ = l.Close()
		items = append(items, Item{OK, name, fmt.Sprintf("%d can be bound", port), ""})
	}
	if g.HTTPServer {
		try("http-port", g.BindAddress, g.HTTPPort)
	}
	try("api-port", g.BindAddress, g.APIPort)
	for _, p := range g.Receiver.Ports {
		try("scheduler-db-servers-sender-ports", g.BindAddress, p)
	}
	if host, port, err := net.SplitHostPort(g.NATS.Listen); err == nil && g.NATS.URL == "" {
		if n, err := strconv.Atoi(port); err == nil {
			try("nats-listen", host, n)
		}
	}
	return items
}

func checkTLS(cfg *config.Config) []Item {
	g := cfg.Global
	if g.APICert == "" {
		return []Item{{OK, "api-https-cert", "self-signed, made on first start", ""}}
	}
	if _, err := tls.LoadX509KeyPair(g.APICert, g.APIKey); err != nil {
		return []Item{{Fail, "api-https-cert", err.Error(), "give a PEM certificate and its key"}}
	}
	return []Item{{OK, "api-https-cert", g.APICert, ""}}
}

func checkSchedules(c config.Cluster) Item {
	name := c.Name + ": schedules"
	var on []string
	for _, s := range schedules(c) {
		if s.Enabled {
			on = append(on, s.Task)
		}
	}
	switch {
	case !c.Scheduler:
		return Item{Warn, name, "monitoring-scheduler is off", "nothing runs by itself until it is true"}
	case len(on) == 0:
		return Item{Warn, name, "no task is scheduled", "set scheduler-db-servers-physical-backup, -logs or -optimize"}
	}
	return Item{OK, name, strings.Join(on, ", "), ""}
}

// checkSwitches names the schedules that somebody switched off, and warns of those that were forgotten.
func checkSwitches(c config.Cluster, live []bus.ScheduleInfo, now time.Time) (items []Item) {
	for _, s := range live {
		if s.Cluster != c.Name || s.Switch == nil {
			continue
		}
		it := Item{OK, c.Name + ": schedule of " + s.Task, s.Switch.String(), ""}
		if s.Switch.Long(now) {
			it.Status, it.Hint = Warn, fmt.Sprintf("off for more than a day; `drydock schedules on %s %s` ends that", c.Name, s.Task)
		}
		items = append(items, it)
	}
	return items
}

// checkDumpTool looks for the program of the logical backup, when one is scheduled that runs here.
func checkDumpTool(c config.Cluster) []Item {
	task, err := job.TaskByName(c.LogicalType)
	if err != nil || !c.Scheduler || !c.LogicalBackup.Enabled || !task.Local(c.ExecRemote) {
		return nil
	}
	name := c.Name + ": " + task.Name
	path, err := local.Tool(c.Mysqldump).Find("backup-mysqldump-path", "mariadb-dump", "mysqldump")
	if task.Name == "mydumper" {
		path, err = local.Tool(c.Mydumper).Find("backup-mydumper-path", "mydumper")
	}
	if err != nil {
		return []Item{{Fail, name, err.Error(), "or have the script run it: scheduler-jobs-exec-remote"}}
	}
	return []Item{{OK, name, path, ""}}
}

// checkServers looks at all servers of a cluster, several at once.
func checkServers(ctx context.Context, cfg *config.Config, c config.Cluster) []Item {
	out := make([][]Item, len(c.Servers))
	const atOnce = 16
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, s := range Servers(c.Servers) {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			out[i] = checkServer(ctx, c, s)
			if firstOnHost(c, i) {
				out[i] = append(out[i], checkSSH(ctx, c, s)...)
				out[i] = append(out[i], checkOnPremise(ctx, cfg, c, s)...)
			}
		})
	}
	wg.Wait()
	var items []Item
	for _, o := range out {
		items = append(items, o...)
	}
	return items
}

func checkServer(ctx context.Context, c config.Cluster, s job.Server) []Item {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	name := c.Name + ": " + s.String()
	mc := mysql.NewConfig()
	mc.Net, mc.Addr, mc.User, mc.Passwd = "tcp", s.Addr(), c.User, c.Password.Reveal()
	mc.Timeout, mc.ReadTimeout, mc.WriteTimeout = checkTimeout, checkTimeout, checkTimeout
	mc.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(mc)
	if err != nil {
		return []Item{{Fail, name, err.Error(), "see db-servers-credential"}}
	}
	db := sql.OpenDB(connector)
	defer func() { _ = db.Close() }()
	var version, readOnly string
	if err := db.QueryRowContext(ctx, "SELECT @@version, @@global.read_only").Scan(&version, &readOnly); err != nil {
		return []Item{serverFailure(c, name, err)}
	}
	items := []Item{{OK, name, version, ""}}
	if c.JobsMode == "sql" {
		items = append(items, checkPrivileges(ctx, db, name, isReadOnly(readOnly)))
	}
	if c.Binlogs.Enabled {
		items = append(items, checkBinlog(ctx, db, name, version))
	}
	return items
}

// isReadOnly reads what SELECT says of read_only: a number, or a word as of MariaDB 12, which has more than two of them.
func isReadOnly(value string) bool { return value != "0" && value != "OFF" }

func serverFailure(c config.Cluster, name string, err error) Item {
	const accessDenied = 1045 // ER_ACCESS_DENIED_ERROR
	var denied *mysql.MySQLError
	if errors.As(err, &denied) && denied.Number == accessDenied {
		return Item{Fail, name, err.Error(), "see db-servers-credential, and that the user may connect from this host"}
	}
	if c.JobsMode == "api" {
		return Item{Warn, name, err.Error(), "the database is down or not reachable; in api mode the jobs do not need it"}
	}
	return Item{Fail, name, err.Error(), "is it up, and does a firewall let this host in?"}
}

// checkPrivileges tries what the jobs table needs: switching the session's binary log off, and writing while the
// server is read-only.
func checkPrivileges(ctx context.Context, db *sql.DB, name string, readOnly bool) Item {
	name += " privileges"
	conn, err := db.Conn(ctx)
	if err != nil {
		return Item{Fail, name, err.Error(), ""}
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.ExecContext(ctx, "SET SESSION sql_log_bin=0"); err != nil {
		return Item{Fail, name, err.Error(), "grant BINLOG ADMIN (MariaDB), SESSION_VARIABLES_ADMIN (MySQL) or SUPER: the jobs table stays out of the binary log"}
	}
	grants, err := grantsOf(ctx, conn)
	if err != nil {
		return Item{Warn, name, err.Error(), ""}
	}
	if missing := tableRights(grants); len(missing) > 0 {
		return Item{Fail, name, "the user may not " + strings.Join(missing, ", ") + " in " + jobsSchema,
			"GRANT " + strings.Join(jobsRights, ", ") + " ON " + jobsSchema + ".* TO the user of db-servers-credential"}
	}
	if readOnly && !hasAny(grants, "ALL PRIVILEGES ON *.*", "SUPER", "READ_ONLY ADMIN", "CONNECTION_ADMIN") {
		return Item{Fail, name, "the server is read-only and the user may not write", "grant READ_ONLY ADMIN (MariaDB) or SUPER, or use scheduler-jobs-mode = \"api\""}
	}
	return Item{OK, name, "may write the jobs table", ""}
}

func grantsOf(ctx context.Context, conn *sql.Conn) (grants string, err error) {
	rows, err := conn.QueryContext(ctx, "SHOW GRANTS")
	if err != nil {
		return "", err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var g string
		if err := rows.Scan(&g); err != nil {
			return "", err
		}
		grants += g + "\n"
	}
	return grants, rows.Err()
}

// jobsSchema is the database of the jobs table, and jobsRights what drydock does there (maintenance.txt section 6.1.2.1).
const jobsSchema = "replication_manager_schema"

var jobsRights = []string{"CREATE", "ALTER", "INDEX", "DROP", "SELECT", "INSERT", "UPDATE", "DELETE"}

// tableRights lists the rights that SHOW GRANTS does not give on the jobs table.
func tableRights(grants string) (missing []string) {
	have := map[string]bool{}
	for _, line := range strings.Split(grants, "\n") {
		rights, on, ok := strings.Cut(strings.TrimPrefix(line, "GRANT "), " ON ")
		on = strings.ReplaceAll(strings.ReplaceAll(on, "`", ""), `\`, "")
		if !ok || !strings.HasPrefix(on, "*.* ") && !strings.HasPrefix(on, jobsSchema+".* ") {
			continue
		}
		for _, r := range strings.Split(rights, ", ") {
			have[r] = true
		}
	}
	for _, r := range jobsRights {
		if !have[r] && !have["ALL PRIVILEGES"] {
			missing = append(missing, r)
		}
	}
	return missing
}

func hasAny(s string, words ...string) bool {
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}

// checkArchive tries the program, the repository and its password. A repository that is made with the first archive is no
// fault.
func checkArchive(ctx context.Context, cfg *config.Config, c config.Cluster) []Item {
	if !c.Archive.Enabled {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, archiveTimeout)
	defer cancel()
	name := c.Name + ": archive"
	found, err := archive.Probe(ctx, repository(cfg, c), cfg.Global.Datadir)
	if err != nil {
		return []Item{{Fail, name, err.Error(), "see backup-restic-binary-path, backup-restic-repository and backup-restic-password"}}
	}
	return []Item{{OK, name, found, ""}}
}
