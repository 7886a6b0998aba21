package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"drydock/job"
	"drydock/store"
)

// fromBackup is the feed of task reseedlogical: a backup of the catalogue, streamed by the receiver that holds it. SQL is
// loaded while it comes; a folder of mydumper is unpacked and checked first.
type fromBackup struct {
	r        *reseed
	manifest store.Manifest
	cancel   context.CancelFunc
	stream   *inflow
	from     *bufio.Reader
	folder   string // unpacked, for mydumper
	loader   *program
}

func (w *work) reseedFromBackup(ctx context.Context) (outcome, error) {
	return w.reseedFrom(ctx, func(r *reseed) (feed, error) {
		m, err := r.chooseBackup(ctx)
		return &fromBackup{r: r, manifest: m, cancel: func() {}}, err
	})
}

func logical(m store.Manifest) bool { return m.Task == "mysqldump" || m.Task == "mydumper" }

// newestGood is the newest logical backup of a server, or else of any, out of manifests that are newest first. One that a drill or a
// verification found bad is for those who name it: nobody looks on when a rolling reprovisioning fills a server. It is pure.
func newestGood(all []store.Manifest, of job.Server) (m store.Manifest, ok bool) {
	all = slices.DeleteFunc(slices.Clone(all), func(m store.Manifest) bool {
		_, bad := m.Fault()
		return bad || !logical(m)
	})
	if len(all) == 0 {
		return m, false
	}
	i := slices.IndexFunc(all, func(m store.Manifest) bool { return m.Server == of })
	return all[max(i, 0)], true
}

// chooseBackup finds the backup that was asked for, or else the newest good one.
func (r *reseed) chooseBackup(ctx context.Context) (m store.Manifest, err error) {
	catalog := store.NewCatalog(r.conn)
	if id := r.job.Args[job.ArgBackup]; id != "" {
		from, err := job.ParseServer(r.job.Args[job.ArgFrom])
		if err != nil {
			return m, fmt.Errorf("backup %s: of which server: %w", id, err)
		}
		if m, err = catalog.Get(ctx, r.job.Cluster, from, id); err != nil {
			return m, err
		}
	} else {
		all, err := catalog.List(ctx, r.job.Cluster, job.Server{})
		if err != nil {
			return m, err
		}
		var ok bool
		if m, ok = newestGood(all, r.job.Server); !ok {
			return m, fmt.Errorf("%w: no good logical backup of cluster %s", store.ErrNoBackup, r.job.Cluster)
		}
	}
	switch {
	case !logical(m):
		return m, fmt.Errorf("backup %s was made by %s: it is no logical backup", m.ID, m.Task)
	case m.GTID == "":
		return m, fmt.Errorf("backup %s has no GTID position to replicate from", m.ID)
	}
	return m, r.reachable(ctx, m.GTID)
}

// reachable makes sure that the primary has the position, and still what comes after it: a server that was filled and
// cannot catch up is worse than one that was left alone.
func (r *reseed) reachable(ctx context.Context, gtid string) error {
	ctx, cancel := context.WithTimeout(ctx, reseedTimeout)
	defer cancel()
	s, err := openSession(ctx, r.cluster, r.primary)
	if err != nil {
		return fmt.Errorf("ask the primary %s for its binary logs: %w", r.primary, err)
	}
	defer s.close()
	logs, err := records(ctx, s.conn, "SHOW BINARY LOGS")
	if err != nil {
		return fmt.Errorf("ask the primary %s for its binary logs: %w", r.primary, err)
	}
	if len(logs) == 0 {
		return fmt.Errorf("the primary %s has no binary logs", r.primary)
	}
	oldest := logs[0]["Log_name"].String
	rows, err := records(ctx, s.conn, "SELECT BINLOG_GTID_POS("+literal(oldest)+", 4) AS p")
	if err != nil {
		return err
	}
	if begins := rows[0]["p"].String; !covers(gtid, begins) {
		return fmt.Errorf("the position of the backup, %s, is not in the binary logs of the primary %s any more: they begin at %s", gtid, r.primary, begins)
	}
	var now string
	if err := s.conn.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_binlog_pos").Scan(&now); err != nil {
		return fmt.Errorf("ask the primary %s for its position: %w", r.primary, err)
	}
	if ahead(gtid, now) {
		return fmt.Errorf("the position of the backup, %s, is ahead of the primary %s, which is at %s: it has transactions that the primary never had", gtid, r.primary, now)
	}
	return nil
}

// ahead reports whether a GTID position is after another one in a domain that both have. It is pure.
func ahead(gtid, other string) bool {
	at := domains(other)
	for domain, seq := range domains(gtid) {
		if n, ok := at[domain]; ok && seq > n {
			return true
		}
	}
	return false
}

// covers reports whether a GTID position is not before another one in any domain. It is pure.
func covers(gtid, other string) bool {
	at := domains(gtid)
	for domain, seq := range domains(other) {
		if at[domain] < seq {
			return false
		}
	}
	return true
}

// domains are the sequence numbers of a GTID position of MariaDB, DOMAIN-SERVER-SEQUENCE separated by commas.
func domains(gtid string) map[string]uint64 {
	out := map[string]uint64{}
	for _, g := range strings.Split(gtid, ",") {
		parts := strings.Split(strings.TrimSpace(g), "-")
		if len(parts) != 3 {
			continue
		}
		n, err := strconv.ParseUint(parts[2], 10, 64)
		if err == nil {
			out[parts[0]] = max(out[parts[0]], n)
		}
	}
	return out
}

func (f *fromBackup) name() string {
	m := f.manifest
	return fmt.Sprintf("%s backup %s of %s, begun %s", m.Task, m.ID, m.Server, m.Started.UTC().Format("2006-01-02 15:04:05 MST"))
}

func (f *fromBackup) open(ctx context.Context) (err error) {
	ctx, f.cancel = context.WithCancel(ctx)
	if f.stream, err = f.r.receive(ctx, f.manifest); err != nil {
		return err
	}
	f.stream.until(ctx)
	f.from = bufio.NewReaderSize(f.stream, copyBuffer)
	if f.manifest.Task == "mydumper" {
		f.folder = filepath.Join(f.r.desk, "dump")
		return unpack(f.folder, io.TeeReader(f.from, counter{f.r.work}), f.manifest.Size)
	}
	head, err := f.from.Peek(dumpHead)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return f.fits(ctx, string(head))
}

// counter counts what was moved.
type counter struct{ w *work }

func (c counter) Write(b []byte) (int, error) {
	c.w.moved.Add(int64(len(b)))
	return len(b), nil
}

const dumpHead = 4 << 10

var dumpServer = regexp.MustCompile(`(?m)^-- Server version\s+(\S+)`)

// fits refuses a dump whose system tables are of another version.
func (f *fromBackup) fits(ctx context.Context, head string) error {
	var version string
	if err := f.r.session.conn.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
		return err
	}
	if m := dumpServer.FindStringSubmatch(head); m != nil && series(m[1]) != series(version) {
		return fmt.Errorf("backup %s is of version %s and this server is %s: the system tables of one do not fit the other", f.manifest.ID, m[1], version)
	}
	return nil
}

func (f *fromBackup) load(ctx context.Context) (string, error) {
	if f.folder != "" {
		return f.manifest.GTID, f.loadFolder(ctx)
	}
	l, err := f.r.startLoader(ctx)
	if err != nil {
		return "", err
	}
	f.loader = l.program
	end, err := l.take(f.from)
	if err != nil {
		return "", l.abort(err)
	}
	gtid, err := endPosition(end)
	if err != nil {
		return "", l.abort(fmt.Errorf("backup %s: %w", f.manifest.ID, err))
	}
	if !(covers(gtid, f.manifest.GTID) && covers(f.manifest.GTID, gtid)) {
		return "", l.abort(fmt.Errorf("backup %s ends with position %s, and its manifest says %s", f.manifest.ID, gtid, f.manifest.GTID))
	}
	return f.manifest.GTID, l.finish()
}

// loadFolder has myloader load what was unpacked.
func (f *fromBackup) loadFolder(ctx context.Context) (err error) {
	r := f.r
	path, err := r.cluster.Myloader.Find("backup-myloader-path", "myloader")
	if err != nil {
		return err
	}
	file := filepath.Join(r.desk, "server.cnf")
	if err := writeOptionFile(file, r.job.Server.Host, r.job.Server.Port, r.cluster.User, r.cluster.Password, `init-command="`+loaderInit+`"`); err != nil {
		return err
	}
	args := append([]string{"--defaults-file=" + file, "--directory=" + f.folder, "--overwrite-tables"}, r.cluster.Myloader.Options...)
	f.loader = begin(ctx, run{path: path, args: args, dir: r.desk, lines: r.lines, secret: r.cluster.Password}, nil, func() {})
	return f.loader.wait()
}

func (f *fromBackup) close() {
	f.cancel()
	if f.stream != nil {
		f.stream.close()
	}
	if f.loader != nil {
		<-f.loader.done
	}
}

func (f *fromBackup) exit() []int { return statuses(f.loader) }

func (f *fromBackup) tool() string {
	if f.manifest.Task == "mydumper" {
		return "myloader"
	}
	return "mariadb"
}
