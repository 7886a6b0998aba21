package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"drydock/store/attempt"
)

// The dumps go the way of a backup that a script streams: through a receiver's port, to be hashed, compressed, checked and
// published there. What is proven is decided by the closer from what both sides say.

// dumpSQL streams what mysqldump writes.
func (w *work) dumpSQL(ctx context.Context) (outcome, error) {
	path, err := w.cluster.Mysqldump.Find("backup-mysqldump-path", "mariadb-dump", "mysqldump")
	if err != nil {
		return outcome{}, err
	}
	dir, err := w.prepare(ctx)
	if err != nil {
		return outcome{}, err
	}
	position, err := w.positionOptions(ctx, path, dir)
	if err != nil {
		return outcome{}, err
	}
	to, err := w.open(ctx)
	if err != nil {
		return outcome{}, err
	}
	out := outcome{tool: filepath.Base(path)}
	args := slices.Concat([]string{"--defaults-extra-file=" + filepath.Join(dir, optionFile)}, w.cluster.Mysqldump.Options, position)
	code, err := run{path: path, args: args, dir: dir, out: to, lines: w.lines, secret: w.cluster.Password}.do(ctx)
	out.exit = []int{code}
	if err == nil {
		err = to.finish()
	}
	return w.sentBy(ctx, out, to, err)
}

// dumpFolder has mydumper fill a folder, and streams that as a tar archive: the version that Debian has cannot stream.
// Nothing is sent of a folder whose tool failed.
func (w *work) dumpFolder(ctx context.Context) (outcome, error) {
	path, err := w.cluster.Mydumper.Find("backup-mydumper-path", "mydumper")
	if err != nil {
		return outcome{}, err
	}
	dir, err := w.prepare(ctx)
	if err != nil {
		return outcome{}, err
	}
	out, folder := outcome{tool: "mydumper"}, filepath.Join(dir, "dump")
	if out.exit, err = w.fillFolder(ctx, path, dir, folder); err != nil {
		return out, err
	}
	to, err := w.open(ctx)
	if err != nil {
		return out, err
	}
	if err = writeTar(ctx, to, folder); err == nil {
		err = to.finish()
	}
	return w.sentBy(ctx, out, to, err)
}

const fillTries = 3

// fillFolder runs mydumper until it has come to its end, or failed: one that stood still is ended and run again.
func (w *work) fillFolder(ctx context.Context, path, dir, folder string) (exit []int, err error) {
	tool := run{
		path: path, dir: dir, lines: w.lines, secret: w.cluster.Password, stall: w.cluster.MydumperStall, watched: folder,
		args: slices.Concat([]string{"--defaults-file=" + filepath.Join(dir, optionFile), "--outputdir=" + folder, "--build-empty-files"},
			w.cluster.Mydumper.Options),
	}
	for try := range fillTries {
		if err := errors.Join(os.RemoveAll(folder), os.Mkdir(folder, 0o700)); err != nil {
			return nil, fmt.Errorf("create a folder for the dump: %w", err)
		}
		code, err := tool.do(ctx)
		if !errors.Is(err, errStalled) {
			return []int{code}, err
		}
		w.lines.Add(attempt.Warn, fmt.Sprintf("mydumper stood still for %s and was ended (try %d of %d)", w.cluster.MydumperStall, try+1, fillTries))
	}
	return nil, fmt.Errorf("mydumper stood still for %s (backup-mydumper-stall-timeout), %d times", w.cluster.MydumperStall, fillTries)
}

const optionFile = "client.cnf"

// prepare waits until the limits let a dump begin, and makes its folder with the option file in it.
func (w *work) prepare(ctx context.Context) (dir string, err error) {
	if len(w.job.Steps) > 0 {
		w.lines.Add(attempt.Info, w.job.Steps[0].Reason) // why this server
	}
	if err := errors.Join(w.yield(ctx), w.unfinished(ctx)); err != nil {
		return "", err
	}
	if dir, err = w.newDesk(); err != nil {
		return "", err
	}
	s := w.job.Server
	return dir, writeOptionFile(filepath.Join(dir, optionFile), s.Host, s.Port, w.cluster.User, w.cluster.Password)
}

// open connects to a receiver; the connection ends after the end of the job has been recorded.
func (w *work) open(ctx context.Context) (*outlet, error) {
	to, err := w.connect(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, to.interrupt)
	w.after = append(w.after, func() { stop(); to.close() })
	return to, nil
}

// sentBy is the outcome of a dump that was sent, or was not.
func (w *work) sentBy(ctx context.Context, out outcome, to *outlet, err error) (outcome, error) {
	var broken *sendError
	switch {
	case errors.As(err, &broken):
		// The receiver tells the job why it broke the stream off (a full disk), which is better than what can be seen here.
		pause(ctx, endedSoon)
		return out, err
	case err != nil:
		return out, err
	}
	out.sent = &to.sent
	out.result = fmt.Sprintf("%s: %d bytes sent", out.tool, to.sent)
	return out, nil
}

// positionOptions are those with which this version of mysqldump writes down the position in the server's own binary log.
// On a replica that is the replica's log, not its source's.
func (w *work) positionOptions(ctx context.Context, path, dir string) ([]string, error) {
	var version string
	var binlog bool
	if err := w.session.conn.QueryRowContext(ctx, "SELECT @@version, @@log_bin").Scan(&version, &binlog); err != nil {
		return nil, fmt.Errorf("ask the server for its binary log: %w", err)
	}
	lacking := ""
	if !binlog {
		lacking = "keeps no binary log (log_bin is OFF)"
	} else if lacks, err := w.logLacks(ctx, version); err != nil {
		return nil, fmt.Errorf("ask the server for its binary log: %w", err)
	} else if lacks {
		lacking = "has no binary log of all that it replicated (log_slave_updates is OFF, or the log is younger than the data)"
	}
	if lacking != "" {
		w.lines.Add(attempt.Warn, "the server "+lacking+": the dump will not say which position it belongs to")
		return nil, nil
	}
	cmd := exec.CommandContext(ctx, path, "--no-defaults", "--version")
	cmd.Env = environment(dir)
	said, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("ask %s for its version: %w", path, err)
	}
	return dumpPosition(string(said), version, w.cluster.Mysqldump.Options), nil
}

// logLacks reports whether the binary log of a replica says nothing of how far its data are: it is not told what is
// replicated, or is younger than the data. A reseed that went on from the position there would apply everything once
// more. MySQL counts in its GTID what it replicated.
func (w *work) logLacks(ctx context.Context, version string) (bool, error) {
	if !strings.Contains(version, "MariaDB") {
		return false, nil
	}
	sources, err := records(ctx, w.session.conn, "SHOW ALL SLAVES STATUS")
	if err != nil || len(sources) == 0 {
		return false, err
	}
	var replicated, logged string // in this order: a transaction is logged first
	if err := w.session.conn.QueryRowContext(ctx, "SELECT @@gtid_slave_pos").Scan(&replicated); err != nil {
		return false, err
	}
	err = w.session.conn.QueryRowContext(ctx, "SELECT @@gtid_binlog_pos").Scan(&logged)
	return !covers(logged, replicated), err
}

var clientVersion = regexp.MustCompile(`(?:Ver|Distrib) (\d+)\.(\d+)\.(\d+)`)

// dumpPosition is the choice of [work.positionOptions]. It is pure.
func dumpPosition(client, server string, options []string) (out []string) {
	for _, o := range options {
		name, _, _ := strings.Cut(strings.ReplaceAll(o, "_", "-"), "=")
		if slices.Contains([]string{"--master-data", "--source-data", "--dump-slave", "--dump-replica"}, name) {
			return nil // the user's choice
		}
	}
	if strings.Contains(client, "MariaDB") {
		out = []string{"--master-data=2"}
		if strings.Contains(server, "MariaDB") {
			out = append(out, "--gtid")
		}
		return out
	}
	number := 0
	if m := clientVersion.FindStringSubmatch(client); m != nil {
		for _, part := range m[1:] {
			n, _ := strconv.Atoi(part) // digits, as the pattern says
			number = number*100 + n
		}
	}
	if number >= 80026 {
		return []string{"--source-data=2"}
	}
	return []string{"--master-data=2"}
}
