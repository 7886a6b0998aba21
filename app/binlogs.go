package app

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"filippo.io/age"

	"drydock/config"
	"drydock/receiver"
	"drydock/receiver/binlog"
	"drydock/store"
)

func binlogConfig(cfg *config.Config, name string, log *slog.Logger) (binlog.Config, error) {
	out := binlog.Config{
		Name: name, Actor: actor(RoleReceiver, name), Dir: filepath.Join(cfg.Global.Datadir, receiver.BackupsFolder), Log: log.With("component", "binlogs"),
	}
	for _, c := range cfg.Clusters {
		recipients, err := recipientsOf(c)
		if err != nil {
			return binlog.Config{}, err
		}
		out.Clusters = append(out.Clusters, binlogCluster(c, recipients))
	}
	return out, nil
}

func binlogCluster(c config.Cluster, recipients []age.Recipient) binlog.Cluster {
	return binlog.Cluster{
		Name: c.Name, On: c.Binlogs.Enabled, Servers: Servers(c.Servers), User: c.User, Password: c.Password.Reveal(),
		ServerID: uint32(c.Binlogs.ServerID), Flush: c.Binlogs.Flush, Compress: c.Compress, Recipients: recipients,
	}
}

// checkBinlog looks whether the binary log of a server can be archived, and replayed.
func checkBinlog(ctx context.Context, db *sql.DB, name, version string) Item {
	name += " binary log"
	conn, err := db.Conn(ctx)
	if err != nil {
		return Item{Fail, name, err.Error(), ""}
	}
	defer func() { _ = conn.Close() }()
	var on bool
	var format, user string
	if err := conn.QueryRowContext(ctx, "SELECT @@global.log_bin, @@global.binlog_format, CURRENT_USER()").Scan(&on, &format, &user); err != nil {
		return Item{Fail, name, err.Error(), ""}
	}
	if !on {
		return Item{Fail, name, "log_bin is off: nothing can be archived", "set log_bin in the server's configuration and restart it, or backup-binlogs = false"}
	}
	grants, err := grantsOf(ctx, conn)
	if err != nil {
		return Item{Warn, name, err.Error(), ""}
	}
	if missing := logRights(grants, strings.Contains(version, "MariaDB")); len(missing) > 0 {
		what := strings.Join(missing, ", ")
		return Item{Fail, name, "the user may not " + what, "GRANT " + what + " ON *.* TO " + account(user)}
	}
	if format != "ROW" {
		return Item{Warn, name, "binlog_format is " + format, "a replay of statements may come to other data: set binlog_format = ROW"}
	}
	return Item{OK, name, "is on, in the format ROW, and may be read", ""}
}

// account quotes what CURRENT_USER() gives, as GRANT wants it.
func account(user string) string {
	name, host := user, "%"
	if at := strings.LastIndexByte(user, '@'); at >= 0 {
		name, host = user[:at], user[at+1:]
	}
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
	return quote(name) + "@" + quote(host)
}

// logRights lists the rights for reading the binary log that SHOW GRANTS does not give.
func logRights(grants string, mariadb bool) (missing []string) {
	have := map[string]bool{}
	for line := range strings.Lines(grants) {
		rights, on, ok := strings.Cut(strings.TrimPrefix(line, "GRANT "), " ON ")
		if !ok || !strings.HasPrefix(strings.ReplaceAll(on, "`", ""), "*.* ") {
			continue
		}
		for r := range strings.SplitSeq(rights, ", ") {
			have[r] = true
		}
	}
	if have["ALL PRIVILEGES"] {
		return nil
	}
	if !have["REPLICATION SLAVE"] {
		missing = append(missing, "REPLICATION SLAVE")
	}
	// SHOW BINARY LOGS: MariaDB has renamed REPLICATION CLIENT.
	switch {
	case have["BINLOG MONITOR"], have["REPLICATION CLIENT"], have["SUPER"] && mariadb:
	case mariadb:
		missing = append(missing, "BINLOG MONITOR")
	default:
		missing = append(missing, "REPLICATION CLIENT")
	}
	return missing
}

// VerifyBinlogs looks at every segment of the backup folder that is of a cluster (all when it is empty), without bus or server, and
// says what is missing between them. Identities open encrypted ones; without them only their hashes are compared.
func VerifyBinlogs(ctx context.Context, folder, cluster string, keys []store.PublicKey, identities []age.Identity, each func(binlog.Found)) ([]store.Gap, error) {
	whole := map[string][]store.Segment{}
	any := false
	err := binlog.Verify(ctx, folder, keys, identities, func(f binlog.Found) {
		if cluster != "" && f.Segment.Cluster != cluster {
			return
		}
		any = true
		if f.Problem == "" {
			whole[f.Segment.Cluster] = append(whole[f.Segment.Cluster], f.Segment)
		}
		each(f)
	})
	if err != nil {
		return nil, err
	}
	if !any {
		return nil, fmt.Errorf("find no archived binary log in %s", folder)
	}
	var gaps []store.Gap
	for _, name := range slices.Sorted(maps.Keys(whole)) {
		gaps = append(gaps, store.BinlogGaps(whole[name])...)
	}
	return gaps, nil
}
