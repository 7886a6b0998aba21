package scripts

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"drydock/internal/freeport"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
)

// dumpDB is a server with a binary log and a table.
func dumpDB(t *testing.T) *mariadbd.Server {
	t.Helper()
	m := mariadbdtest.Start(t, mariadbd.Options{Password: oddPassword, LogBin: true})
	db, err := m.DB()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range []string{"CREATE DATABASE shop", "CREATE TABLE shop.a (i INT, t TEXT)", "INSERT INTO shop.a VALUES (1, 'one'), (2, 'two')", "CREATE VIEW shop.v AS SELECT 1"} {
		if _, err := db.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func TestDumpsArriveWholeThoughThePasswordIsHostile(t *testing.T) {
	t.Parallel()
	for task, whole := range map[string]func(string) bool{
		"mysqldump": func(s string) bool {
			return strings.Contains(s, "-- CHANGE MASTER TO MASTER_LOG_FILE=") && strings.Contains(s, "-- SET GLOBAL gtid_slave_pos='0-") &&
				strings.Contains(s, "(1,'one')") && strings.Contains(s[len(s)-100:], "\n-- Dump completed on ")
		},
		"mydumper": func(s string) bool {
			cmd := exec.Command("tar", "-t")
			cmd.Stdin = strings.NewReader(s)
			names, err := cmd.Output()
			files := strings.Fields(string(names))
			return err == nil && slices.Contains(files, "shop.a.sql") && slices.Contains(files, "shop.v-schema-view.sql") && files[len(files)-1] == "metadata"
		},
	} {
		t.Run(task, func(t *testing.T) {
			t.Parallel()
			m := newManager(t, oddPassword, dumpDB(t).Port(), true)
			c := newClient(t, m)
			c.env = append(c.env, "DRYDOCK_STALL=10")
			audit := filepath.Join(t.TempDir(), "audit")
			tool := map[string]string{"mysqldump": "mariadb-dump", "mydumper": "mydumper"}[task]
			real, err := exec.LookPath(tool)
			if err != nil {
				t.Fatal(err)
			}
			c.fakeTool(tool, "{ printf '%s ' \"$@\"; /usr/bin/env; } >>'"+audit+"'\nexec "+real+" \"$@\"\n")
			m.offer(task, "01JOB", 1)
			c.mustCycle()
			end := m.last(task)
			stream := m.stream(task)
			if end.State != "done" || end.Identity.Bytes == nil || *end.Identity.Bytes != int64(len(stream)) || !slices.Equal(end.Identity.Exit, []int{0, 0, 0}) {
				t.Fatalf("ended as %+v\n%s", end, strings.Join(m.logLines(), "\n"))
			}
			if !whole(stream) {
				t.Errorf("%d bytes arrived that are no dump", len(stream))
			}
			if seen, err := os.ReadFile(audit); err != nil || len(seen) == 0 || bytes.Contains(seen, []byte(oddPassword)) {
				t.Errorf("the tool was given the password as an argument or in its environment, %v", err)
			}
			if left, _ := filepath.Glob(filepath.Join(c.folder(), "work", "*")); len(left) > 0 {
				t.Errorf("left behind %v", left)
			}
			lingering(t, c)
		})
	}
}

func TestADumpOfAReplicaWhoseLogLacksWhatItReplicatedNamesNoPosition(t *testing.T) {
	t.Parallel()
	replica := mariadbdtest.Start(t, mariadbd.Options{Password: oddPassword, LogBin: true, Extra: []string{"log-slave-updates=0"}})
	primary := dumpDB(t)
	if err := errors.Join(mariadbd.Replicate(t.Context(), primary, replica), mariadbd.CatchUp(t.Context(), primary, replica)); err != nil {
		t.Fatal(err)
	}
	m := newManager(t, oddPassword, replica.Port(), true)
	c := newClient(t, m)
	m.offer("mysqldump", "01JOB", 1)
	c.mustCycle()
	stream := m.stream("mysqldump")
	if end := m.last("mysqldump"); end.State != "done" || !strings.Contains(stream, "(1,'one')") || strings.Contains(stream, "\n-- CHANGE MASTER TO MASTER_LOG_FILE=") {
		t.Errorf("ended as %+v with %.2000s", end, stream)
	}
	if log := strings.Join(m.logLines(), "\n"); !strings.Contains(log, "log_slave_updates is OFF") {
		t.Error(log)
	}
}

func TestAServerThatAReseedLeftHalfFilledIsNotBackedUp(t *testing.T) {
	t.Parallel()
	db := dumpDB(t)
	conn, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), "CHANGE MASTER TO MASTER_HOST='reseed-unfinished.invalid'"); err != nil {
		t.Fatal(err)
	}
	m := newManager(t, oddPassword, db.Port(), true)
	c := newClient(t, m)
	for _, task := range []string{"mysqldump", "mydumper", "mariabackup"} {
		m.offer(task, "01JOB", 1)
		c.mustCycle()
		if end := m.last(task); end.State != "error" || !strings.Contains(end.Identity.Result, "its data are incomplete") {
			t.Errorf("%s ended as %+v", task, end)
		}
	}
}

func TestDumpsThatAreNotWholeAreErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ task, tool, body, want string }{
		"text without its end":      {"mysqldump", "mariadb-dump", "echo 'CREATE TABLE a (i int);'", "did not say that it completed"},
		"text, the tool fails":      {"mysqldump", "mariadb-dump", "echo '-- Dump completed on 2026-11-25 22:49:30'; echo 'no such table' >&2; exit 3", "exit status 3"},
		"folder without its end":    {"mydumper", "mydumper", "", "did not say that it finished"},
		"folder, the tool fails":    {"mydumper", "mydumper", "exit 1", "exit status 1"},
		"folder, nothing goes on":   {"mydumper", "mydumper", "exec sleep 1000", "stood still for 2 seconds, three times"},
		"folder, metadata.partial ": {"mydumper", "mydumper", `for a; do case $a in --outputdir=*) echo "Finished dump at: x" >"${a#*=}/metadata.partial" ;; esac; done`, "did not say that it finished"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newManager(t, oddPassword, freeport.Pick(t), false)
			client := newClient(t, m)
			client.env = append(client.env, "DRYDOCK_STALL=2")
			client.fakeTool(c.tool, c.body)
			m.offer(c.task, "D", 1)
			client.mustCycle()
			if end := m.last(c.task); end.State != "error" || !strings.Contains(end.Identity.Result, c.want) {
				t.Errorf("ended as %+v", end)
			}
			if s := m.stream(c.task); c.task == "mydumper" && s != "" && s != "(no stream)" {
				t.Error("half a folder was sent")
			}
			lingering(t, client)
		})
	}
}
