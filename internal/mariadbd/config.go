package mariadbd

import (
	"crypto/sha1"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrNotInstalled is returned when a MariaDB command is missing; "make setup"
// installs it.
var ErrNotInstalled = errors.New("mariadb is not installed (run: make setup)")

// storageSettings decide the size of the files that mariadb-install-db
// creates, so the template and the servers must agree on them.
var storageSettings = []string{
	"innodb_buffer_pool_size=64M",
	"innodb_log_file_size=96M",
	"innodb_use_native_aio=0",                         // locked-memory limits in containers make it fail noisily
	"innodb_temp_data_file_path=ibtmp1:5M:autoextend", // written full at each start
	"innodb_buffer_pool_dump_at_shutdown=0",
	"innodb_buffer_pool_load_at_startup=0",
	"key_buffer_size=1M",
	"aria_pagecache_buffer_size=8M",
}

// lookTool finds a MariaDB command, also where Debian keeps the daemon, which
// is not in an ordinary user's PATH.
func lookTool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/usr/libexec"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("find %s: %w", name, ErrNotInstalled)
}

// userArgs lets mariadbd run as root, which it refuses unless told.
func userArgs() []string {
	if os.Geteuid() == 0 {
		return []string{"--user=root"}
	}
	return nil
}

// settings returns the lines of the server's [mariadbd] section. Later lines
// win, so [Options.Extra] comes last.
func (s *Server) settings() []string {
	lines := []string{
		"datadir=" + quoteSetting(s.DataDir()),
		"tmpdir=" + quoteSetting(s.path("tmp")),
		"socket=" + quoteSetting(s.socket),
		"pid-file=" + quoteSetting(s.path("mariadbd.pid")),
		"bind-address=127.0.0.1",
		"port=" + strconv.Itoa(s.port),
		"server-id=" + strconv.FormatUint(uint64(s.serverID()), 10),
		"gtid-domain-id=" + strconv.FormatUint(uint64(s.opts.GTIDDomain), 10),
		"skip-name-resolve",
		"character-set-server=utf8mb4",
		"log-error=" + quoteSetting(s.ErrorLog()),
		"slow-query-log=1",
		"slow-query-log-file=" + quoteSetting(s.SlowLog()),
		"long-query-time=1",
		"max-allowed-packet=64M",
		"relay-log=relay", // the default carries the host's name, and a warning
		"performance-schema=0",
		// The data is generated and the machine stays up: a server killed in
		// mid-write recovers all the same, only a power loss would cost data.
		"innodb_flush_log_at_trx_commit=2",
		"sync_binlog=0",
	}
	lines = append(lines, storageSettings...)
	if s.opts.LogBin {
		lines = append(lines, "log-bin="+quoteSetting(filepath.Join(s.DataDir(), "binlog")),
			"binlog-format=ROW", "log-slave-updates=1")
	}
	return append(lines, s.opts.Extra...)
}

// quoteSetting makes any path safe as a value in an option file.
func quoteSetting(v string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`
}

// writeConfig writes the option file for the port now chosen.
func (s *Server) writeConfig() error {
	text := "[mariadbd]\n" + strings.Join(s.settings(), "\n") + "\n"
	if err := os.WriteFile(s.ConfigFile(), []byte(text), 0o600); err != nil {
		return fmt.Errorf("write option file: %w", err)
	}
	return nil
}

// writeInit writes the statements that create the account. mariadbd runs them
// before it takes its first connection, so no other way in is needed. They
// stay out of the binary log: a replica has its own account.
func (s *Server) writeInit(path string) error {
	var b strings.Builder
	b.WriteString("SET sql_log_bin=0;\n")
	for _, host := range []string{"127.0.0.1", "localhost"} {
		account := quoteText(s.opts.User) + "@" + quoteText(host)
		fmt.Fprintf(&b, "CREATE OR REPLACE USER %s IDENTIFIED BY PASSWORD '%s';\n", account, passwordHash(s.opts.Password))
		fmt.Fprintf(&b, "GRANT ALL PRIVILEGES ON *.* TO %s WITH GRANT OPTION;\n", account)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("write init file: %w", err)
	}
	return nil
}

// passwordHash is what mysql_native_password stores. Giving the server the
// hash keeps the password out of every file and log, and spares us quoting it.
// SHA-1 is the server's choice. An empty password has an empty hash.
func passwordHash(password string) string {
	if password == "" {
		return ""
	}
	once := sha1.Sum([]byte(password))
	return fmt.Sprintf("*%X", sha1.Sum(once[:]))
}

// quoteText makes an SQL string literal that stays on one line, as the reader
// of init files wants it.
func quoteText(v string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "\r", `\r`, "\x00", `\0`).Replace(v) + "'"
}
