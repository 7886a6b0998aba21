package local

import (
	"strings"
	"testing"

	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/job"
)

// fleet is a primary with two replicas, the first of which has gone astray: other rows, other schemas, entries of its own
// in its binary log.
func fleet(t *testing.T) (r *rig, primary, astray *mariadbd.Server) {
	t.Helper()
	primary, astray = mariadbdtest.Pair(t, mariadbd.Options{Password: password, Extra: []string{"gtid_strict_mode=1"}})
	second := mariadbdtest.Start(t, mariadbd.Options{Password: password, LogBin: true})
	if err := mariadbd.Replicate(t.Context(), primary, second); err != nil {
		t.Fatal(err)
	}
	r = newRig(t, primary, astray, second)
	r.args = map[string]string{job.ArgConfirm: "test"}
	r.sql(0, shop, "CREATE TABLE shop.a (i INT PRIMARY KEY, t TEXT, b BLOB)",
		`INSERT INTO shop.a SELECT seq, CONCAT('é\n-- Dump completed\n', seq), UNHEX(SHA2(seq, 512)) FROM shop.seq_1_to_3000`,
		"CREATE TABLE shop.`o``dd na.me` (i INT) ENGINE=Aria", "INSERT INTO shop.`o``dd na.me` VALUES (1)", "CREATE VIEW shop.v AS SELECT i FROM shop.a",
		"CREATE PROCEDURE shop.p() SELECT 1", "CREATE TRIGGER shop.g BEFORE INSERT ON shop.a FOR EACH ROW SET NEW.t = CONCAT('by trigger ', NEW.t)",
		"CREATE EVENT shop.e ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.fired VALUES (NOW())", "CREATE TABLE shop.fired (t DATETIME)",
		"CREATE USER reader@'%' IDENTIFIED BY 'secret'", "GRANT SELECT ON shop.* TO reader@'%'",
		"SET sql_log_bin=0", "CREATE DATABASE replication_manager_schema", "CREATE TABLE replication_manager_schema.jobs (task TEXT)",
		"INSERT INTO replication_manager_schema.jobs VALUES ('of the primary')")
	if err := mariadbd.CatchUp(t.Context(), primary, astray); err != nil {
		t.Fatal(err)
	}
	r.sql(1, "SET GLOBAL event_scheduler=ON", "DELETE FROM shop.a WHERE i < 100", "UPDATE shop.a SET t='wrong' WHERE i > 2900", "CREATE DATABASE extra", "CREATE TABLE extra.t (i INT)",
		"CREATE TABLE shop.left_over (i INT)", "CREATE USER stray@'%'",
		"SET sql_log_bin=0", "CREATE DATABASE replication_manager_schema", "CREATE TABLE replication_manager_schema.jobs (task TEXT)",
		"INSERT INTO replication_manager_schema.jobs VALUES ('of the replica')")
	return r, primary, astray
}

// sameAsPrimary compares server i with the primary, now and after the next change on the primary.
func (r *rig) sameAsPrimary(primary, copied *mariadbd.Server, i int) {
	r.t.Helper()
	compare := []string{
		"SELECT GROUP_CONCAT(SCHEMA_NAME ORDER BY 1) FROM information_schema.SCHEMATA",
		"SELECT GROUP_CONCAT(TABLE_SCHEMA, '.', TABLE_NAME, ' ', TABLE_TYPE ORDER BY 1) FROM information_schema.TABLES WHERE TABLE_SCHEMA='shop'",
		"SELECT GROUP_CONCAT(ROUTINE_NAME) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA='shop'",
		"SELECT GROUP_CONCAT(TRIGGER_NAME) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA='shop'",
		"SELECT GROUP_CONCAT(User, '@', Host ORDER BY 1) FROM mysql.global_priv",
		"SELECT COUNT(*) FROM shop.a", "SELECT COUNT(*) FROM shop.v",
	}
	for range 2 {
		for _, q := range compare {
			if want, got := r.value(0, q), r.value(i, q); got != want {
				r.t.Errorf("%s\n the primary has %s\n the copy      %s", q, want, got)
			}
		}
		for _, table := range []string{"shop.a", "shop.`o``dd na.me`"} {
			want, got := r.checksum(0, table), r.checksum(i, table)
			if want != got {
				r.t.Errorf("checksum of %s is %s, and %s on the primary", table, got, want)
			}
		}
		r.sql(0, "INSERT INTO shop.a VALUES ((SELECT MAX(i)+1 FROM shop.a x), 'after the reseed', '')", "CREATE USER IF NOT EXISTS later@'%'")
		if err := mariadbd.CatchUp(r.t.Context(), primary, copied); err != nil {
			r.t.Fatal(err)
		}
	}
	if s := r.value(i, "SELECT STATUS FROM information_schema.EVENTS WHERE EVENT_NAME='e'"); s != "SLAVESIDE_DISABLED" {
		r.t.Errorf("the event is %s", s)
	}
	if n := r.value(i, "SELECT COUNT(*) FROM shop.fired"); n != "0" {
		r.t.Errorf("the event fired %s times on the replica", n)
	}
	if s := r.value(i, "SELECT task FROM replication_manager_schema.jobs"); s != "of the replica" {
		r.t.Errorf("the script of the server would do the job %q", s)
	}
}

func (r *rig) checksum(i int, table string) string {
	r.t.Helper()
	var name, sum string
	if err := r.dbs[i].QueryRowContext(bustest.Context(r.t), "CHECKSUM TABLE "+table).Scan(&name, &sum); err != nil {
		r.t.Fatal(err)
	}
	return sum
}

func TestAStrayReplicaIsReseededFromThePrimary(t *testing.T) {
	t.Parallel()
	r, primary, astray := fleet(t)
	r.start("scheduler@a")
	j := r.queue(1, "reseedlogicalmaster", job.Local)
	j = r.awaitState(j, job.Finished)
	if v := job.Judge(must(job.TaskByName(j.Task)), j, true); v.Event != job.Pass {
		t.Errorf("judged %+v", v)
	}
	if !strings.Contains(j.Evidence.Result, "replicates from "+r.cluster.Servers[0].String()) || j.Evidence.GTID == "" {
		t.Errorf("%+v", j.Evidence)
	}
	r.sameAsPrimary(primary, astray, 1)
	if s := r.value(1, "SELECT @@gtid_binlog_pos"); s != r.value(0, "SELECT @@gtid_binlog_pos") {
		t.Errorf("the copy's binary log is at %s", s)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
