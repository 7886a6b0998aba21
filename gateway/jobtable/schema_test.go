package jobtable_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"drydock/gateway/jobtable"
	"drydock/internal/mariadbd"
)

// documented is the statement of maintenance.txt section 6.1.2.1, for a table beside ours to compare with.
const documented = `CREATE TABLE reference.jobs (
  id      INT          NOT NULL AUTO_INCREMENT PRIMARY KEY,
  task    VARCHAR(20),
  port    INT,
  server  VARCHAR(255),
  done    TINYINT      NOT NULL DEFAULT 0,
  state   TINYINT      NOT NULL DEFAULT 0,
  result  MEDIUMTEXT,
  payload MEDIUMTEXT,
  start   DATETIME,
  end     DATETIME,
  KEY idx1 (task, done),
  KEY idx2 (result(1), task),
  KEY idx3 (task, state),
  UNIQUE  (task)
) ENGINE=InnoDB`

func TestTableIsTheDocumentedOneAndNothingIsDoneTwice(t *testing.T) {
	t.Parallel()
	s := server(t, mariadbd.Options{Extra: []string{"sql_mode=ANSI_QUOTES,NO_BACKSLASH_ESCAPES,NO_ZERO_DATE", "autocommit=0"}})
	c := as(t, s)
	run(t, c, "CREATE DATABASE reference", documented)
	tab := ready(t, s)
	ours, want := text(t, c, "SHOW CREATE TABLE replication_manager_schema.jobs"), text(t, c, "SHOW CREATE TABLE reference.jobs")
	if ours != want {
		t.Errorf("table is\n%s\nwant\n%s", ours, want)
	}
	const ddl = "SELECT SUM(variable_value) FROM information_schema.global_status WHERE variable_name IN ('COM_CREATE_DB','COM_CREATE_TABLE','COM_ALTER_TABLE','COM_DROP_TABLE')"
	before := text(t, c, ddl)
	if err := tab.Setup(bound(t)); err != nil {
		t.Fatal(err)
	}
	if after := text(t, c, ddl); after != before {
		t.Errorf("a second setup issued DDL: %s statements before, %s after", before, after)
	}
}

// TestOlderTableKeepsItsLiveRows takes the layouts that came before today's.
func TestOlderTableKeepsItsLiveRows(t *testing.T) {
	t.Parallel()
	s := server(t, mariadbd.Options{})
	tab, c := open(t, s), as(t, s)
	run(t, c, "CREATE DATABASE replication_manager_schema", "CREATE DATABASE reference", documented)
	for name, layout := range map[string]string{
		"no state, no payload, no keys": "id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, task VARCHAR(20), port INT, server VARCHAR(255), done TINYINT NOT NULL DEFAULT 0, result VARCHAR(1000), start DATETIME, end DATETIME)",
		"short result, plain keys":      "id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, task VARCHAR(10), port INT, server VARCHAR(255), done TINYINT NOT NULL DEFAULT 0, state TINYINT NOT NULL DEFAULT 0, result VARCHAR(200), start DATETIME, end DATETIME, KEY idx1 (task, done), KEY idx2 (result, task), KEY idx3 (state))",
		"MyISAM":                        "id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, task VARCHAR(20), port INT, server VARCHAR(255), done TINYINT NOT NULL DEFAULT 0, state TINYINT NOT NULL DEFAULT 0, result MEDIUMTEXT, payload MEDIUMTEXT, start DATETIME, end DATETIME) ENGINE=MyISAM",
	} {
		run(t, c, "DROP TABLE IF EXISTS replication_manager_schema.jobs", "CREATE TABLE replication_manager_schema.jobs ("+layout,
			`INSERT INTO replication_manager_schema.jobs (id, task, done, result) VALUES
			(1,'optimize',1,'first'), (2,'optimize',1,'second'), (3,'errorlog',0,'live'), (4,'errorlog',1,'newer but finished'), (5,'slowquery',1,'only')`)
		if err := tab.Setup(bound(t)); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := text(t, c, "SELECT id, task, done, state, result FROM replication_manager_schema.jobs ORDER BY id")
		if want := "2|optimize|1|0|second\n3|errorlog|0|0|live\n5|slowquery|1|0|only"; got != want {
			t.Errorf("%s: rows are\n%s\nwant\n%s", name, got, want)
		}
		const shape = "SELECT column_name, column_type, column_default, is_nullable FROM information_schema.columns WHERE table_name='jobs' AND table_schema='%' ORDER BY 1"
		const keys = "SELECT index_name, non_unique, seq_in_index, column_name, sub_part FROM information_schema.statistics WHERE table_name='jobs' AND table_schema='%' ORDER BY 1, 3"
		for _, q := range []string{shape, keys} {
			ours, want := text(t, c, strings.Replace(q, "%", "replication_manager_schema", 1)), text(t, c, strings.Replace(q, "%", "reference", 1))
			if ours != want {
				t.Errorf("%s: layout is\n%s\nwant\n%s", name, ours, want)
			}
		}
		if engine := text(t, c, "SELECT engine FROM information_schema.tables WHERE table_schema='replication_manager_schema'"); engine != "InnoDB" {
			t.Errorf("%s: engine %s", name, engine)
		}
		if row := insert(t, tab, jobAt(s, "optimize", 1)); row == 2 {
			t.Errorf("%s: id 2 came again", name)
		}
	}
}

func TestTwoLiveRowsOfATaskStopTheUpgrade(t *testing.T) {
	t.Parallel()
	s := server(t, mariadbd.Options{})
	tab, c := open(t, s), as(t, s)
	run(t, c, "CREATE DATABASE replication_manager_schema",
		"CREATE TABLE replication_manager_schema.jobs (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, task VARCHAR(20), done TINYINT NOT NULL DEFAULT 0)",
		"INSERT INTO replication_manager_schema.jobs (task) VALUES ('optimize'), ('optimize')")
	err := tab.Setup(bound(t))
	if !errors.Is(err, jobtable.ErrLayout) || !strings.Contains(err.Error(), "optimize") {
		t.Errorf("setup says %v", err)
	}
	if n := text(t, c, "SELECT COUNT(*) FROM replication_manager_schema.jobs"); n != "2" {
		t.Errorf("%s of 2 live rows are left", n)
	}
}

func TestDropKeepsOrCreatesTheDatabase(t *testing.T) {
	t.Parallel()
	s := server(t, mariadbd.Options{})
	tab, c := open(t, s), as(t, s)
	const what = "SELECT COUNT(DISTINCT schema_name), COUNT(table_name) FROM information_schema.schemata LEFT JOIN information_schema.tables ON table_schema=schema_name WHERE schema_name='replication_manager_schema'"
	for _, prepare := range []func(){func() {}, func() { ready(t, s) }, func() {}} {
		prepare()
		if err := tab.Drop(bound(t)); err != nil {
			t.Fatal(err)
		}
		if got := text(t, c, what); got != "1|0" {
			t.Errorf("databases|tables: %s, want 1|0", got)
		}
	}
	if _, err := tab.Rows(bound(t)); !errors.Is(err, jobtable.ErrNoTable) {
		t.Errorf("reading a dropped table says %v", err)
	}
	if _, err := tab.Insert(bound(t), jobAt(s, "optimize", 1), "", 0); !errors.Is(err, jobtable.ErrNoTable) {
		t.Errorf("inserting into a dropped table says %v", err)
	}
}

// TestDDLNeverQueuesBehindABackup is upstream's #1721: DDL of the tool itself waits for the backup lock, and everything
// else waits for the DDL.
func TestDDLNeverQueuesBehindABackup(t *testing.T) {
	t.Parallel()
	s := server(t, mariadbd.Options{})
	backup := as(t, s)
	run(t, backup, "BACKUP STAGE START", "BACKUP STAGE BLOCK_DDL")
	begun := time.Now()
	err := open(t, s).Setup(bound(t))
	if took := time.Since(begun); err == nil || took > 9*time.Second {
		t.Errorf("setup under a backup lock took %s and says %v", took, err)
	}
	run(t, backup, "BACKUP STAGE END")
	tab := ready(t, s)
	run(t, backup, "BACKUP STAGE START", "BACKUP STAGE BLOCK_DDL")
	begun = time.Now()
	if err := open(t, s).Setup(bound(t)); err != nil {
		t.Errorf("setup of a table that is there, under a backup lock: %v", err)
	}
	insert(t, tab, jobAt(s, "mariabackup", 1))
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("a look and an insert waited %s for the backup", took)
	}
	run(t, backup, "BACKUP STAGE END")
}
