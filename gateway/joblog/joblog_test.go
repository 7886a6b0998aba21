package joblog

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func fixture(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// batches gives text to Parse as a client does, n lines at a time, and merges what comes of it.
func batches(task, text string, n int) Evidence {
	var e Evidence
	all := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for len(all) > 0 {
		k := min(n, len(all))
		b := Parse(task, Debug, strings.Join(all[:k], "\n"))
		e = Merge(e, b.Evidence)
		e = Merge(e, b.Evidence) // every answer is lost once
		all = all[k:]
	}
	return e
}

func TestRealOutputGivesTheEvidence(t *testing.T) {
	t.Parallel()
	const tool, version, server = "mariabackup", "10.11.19-MariaDB", "10.11.19-MariaDB-0+deb12u1-log"
	for name, tc := range map[string]struct {
		task, file string
		want       Evidence
	}{
		"good backup": {"mariabackup", "mariabackup_ok.log", Evidence{Tool: tool, Version: version, ServerVersion: server,
			BinlogFile: "mysql-bin.000001", BinlogPos: 1122, GTID: "3-7-5", Completed: true}},
		"prepare": {"reseedmariabackup", "mariabackup_prepare.log", Evidence{Tool: tool, Version: version, Completed: true}},
		"wrong user": {"mariabackup", "mariabackup_denied.log", Evidence{Errors: []string{
			"[00] 2026-11-22 22:24:40 Failed to connect to MariaDB server: Access denied for user 'nobody'@'localhost' (using password: YES)."}}},
		"nowhere to write": {"mariabackup", "mariabackup_full.log", Evidence{Tool: tool, Version: version, ServerVersion: server, Errors: []string{
			"\amariabackup: Error writing file 'UNKNOWN' (errno: 28 \"No space left on device\")",
			"[00] 2026-11-22 22:24:40 Error: copy_file() failed.",
			"[00] FATAL ERROR: 2026-11-22 22:24:40 mariabackup: Error: failed to copy datafile."}}},
		"killed":             {"mariabackup", "mariabackup_killed.log", Evidence{Tool: tool, Version: version, ServerVersion: server}},
		"optimize":           {"optimize", "mariadb-check_optimize.log", Evidence{}},
		"named like the end": {"mariabackup", "mariadb-check_optimize.log", Evidence{}},
	} {
		for _, n := range []int{1, 5, 1000} {
			if got := batches(tc.task, fixture(t, tc.file), n); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("%s, %d lines at a time:\n got %+v\nwant %+v", name, n, got, tc.want)
			}
		}
	}
	want := Evidence{Errors: []string{"app.m: Error    : Incorrect file format 'm'", "app.m: error    : Corrupt"}}
	if got := Parse("optimize", "", fixture(t, "mariadb-check_corrupt.log")).Evidence; !reflect.DeepEqual(got, want) {
		t.Errorf("corrupt table: %+v", got)
	}
}

func TestOnlyTheToolsOwnEndLineIsCompletion(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"[00] 2026-11-22 10:00:00 completed OK!", "[00] 2026-11-22  9:00:00 completed OK!", "[00] 2026-11-22 10:00:00 completed OK!\r",
		"220322 19:05:13 completed OK!", "171205 12:00:00  innobackupex: completed OK!", "[00] 2026-11-22 10:00:00 mariabackup: completed OK!",
		"2022-03-22T19:15:36.142247+05:30 0 [Note] [MY-011825] [Xtrabackup] completed OK!",
		"2026-11-22T10:00:00.000000Z 0 [Note] [Xtrabackup] completed OK!",
	} {
		if !Parse("mariabackup", Debug, line).Evidence.Completed || !Parse("flashbackmariadbackup", "", line).Evidence.Completed {
			t.Errorf("%q is an end line", line)
		}
		for _, task := range []string{"optimize", "errorlog", "mysqldump", "zfssnapback", "main", ""} {
			if Parse(task, Debug, line).Evidence.Completed {
				t.Errorf("%q ended a %s", line, task)
			}
		}
	}
	for _, line := range []string{
		"completed OK!", "app.completed OK!", "[01] 2026-11-22 10:00:00 Streaming ./app/completed OK!.ibd", "[01] 2026-11-22 10:00:00 Streaming ./app/x completed OK!",
		"[00] 2026-11-22 10:00:00 completed OK! not", "[00] 2026-11-22 10:00:00 completed OK", "x [00] 2026-11-22 10:00:00 completed OK!",
		"2022-03-22T19:15:36.1Z 0 [ERROR] [MY-011825] [Xtrabackup] completed OK!", "2022-03-22T19:15:36.1Z 0 [Note] [MY-1] [InnoDB] completed OK!",
		"[00] 2026-11-22 10:00:00 Copied file ./a/completed OK!", "[00] 2026-11-22 10:00:00 DDL tracking : create 5 \"./app/completed OK!\"",
	} {
		if Parse("mariabackup", Debug, line).Evidence.Completed {
			t.Errorf("%q passed for an end line", line)
		}
	}
}

const (
	u1 = "6ce40be3-e359-11e9-87e0-36933cb0ca5a"
	u2 = "7b166a41-65a2-11ed-9de3-0800275ff74d"
)

func TestPositions(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text, file string
		pos        int64
		gtid       string
	}{
		"mariabackup":           {"[00] 2026-11-22 10:00:00 MySQL binlog position: filename 'mysql-bin.000012', position '1234', GTID of the last change '0-1-42'", "mysql-bin.000012", 1234, "0-1-42"},
		"two domains":           {"MySQL binlog position: filename 'b.1', position '4', GTID of the last change '0-1-42,1-2-7'", "b.1", 4, "0-1-42,1-2-7"},
		"as wire.md has it":     {"filename 'mysql-bin.000012', position '1234', GTID of the last change '0-1-42'", "mysql-bin.000012", 1234, "0-1-42"},
		"no GTID":               {"220322 19:05:13 MySQL binlog position: filename 'mysql-bin.000002', position '156'", "mysql-bin.000002", 156, ""},
		"empty GTID":            {"MySQL binlog position: filename 'b.000001', position '328', GTID of the last change ''", "b.000001", 328, ""},
		"innobackupex":          {"innobackupex: MySQL binlog position: filename 'mysql-bin.000003', position 1946", "mysql-bin.000003", 1946, ""},
		"xtrabackup 8":          {"2026-11-22T10:00:00.1Z 0 [Note] [MY-011825] [Xtrabackup] MySQL binlog position: filename 'binlog.000003', position '157', GTID of the last change '" + u1 + ":1-29'", "binlog.000003", 157, u1 + ":1-29"},
		"set over lines":        {"x: MySQL binlog position: filename 'b.3', position '157', GTID of the last change '" + u1 + ":1-29:31,\n" + u2 + ":1-5'\n[00] 2026-11-22 10:00:00 All tables unlocked", "b.3", 157, u1 + ":1-29:31," + u2 + ":1-5"},
		"cut at 8 KiB":          {"MySQL binlog position: filename 'b.3', position '157', GTID of the last change '" + u1 + ":1-29," + u2 + ":1-5", "b.3", 157, u1 + ":1-29,"},
		"cut in the first":      {"MySQL binlog position: filename 'b.3', position '157', GTID of the last change '" + u1 + ":1-2", "b.3", 157, ""},
		"set only":              {"MySQL binlog position: GTID of the last change '" + u1 + ":1-2'", "", 0, u1 + ":1-2"},
		"the source's":          {"MySQL slave binlog position: master host '10.0.0.1', filename 'mysql-bin.000006', position '99'", "", 0, ""},
		"the source's, old":     {"MySQL slave binlog position: filename 'mysql-bin.000006', position '99', master host '10.0.0.1'", "", 0, ""},
		"the source's, no host": {"MySQL slave binlog position: filename 'mysql-bin.000006', position '99'", "", 0, ""},
		"own, then source's":    {"MySQL binlog position: filename 'own.1', position '5'\nMySQL slave binlog position: master host 'h', filename 'src.6', position '99'", "own.1", 5, ""},
		"the later wins":        {"MySQL binlog position: filename 'b.1', position '5', GTID of the last change '0-1-1'\nMySQL binlog position: filename 'b.2', position '6'", "b.2", 6, ""},
		"no number":             {"MySQL binlog position: filename 'b.1', position '99999999999999999999'", "", 0, ""},
		"mydumper old":          {"Started dump at: 2020-03-10 15:53:25\nSHOW MASTER STATUS:\n\tLog: ON.000001\n\tPos: 7502\n\tGTID:" + u1 + ":1-29\n\nSHOW SLAVE STATUS:\n\tHost: h\n\tLog: src.9\n\tPos: 9\n\tGTID:x\n\nFinished dump at: 2020-03-10 15:53:25\n", "ON.000001", 7502, u1 + ":1-29"},
		"mydumper old, no GTID": {"SHOW MASTER STATUS:\n\tLog: mysql-bin.000001\n\tPos: 100\n\tGTID:(null)\n", "mysql-bin.000001", 100, ""},
		"mydumper new":          {"# Started dump at: 2023-06-09 11:47:18\n[config]\nquote_character = BACKTICK\n\n[master]\n# Channel_Name = '' # It can be use to setup replication FOR CHANNEL\nFile = b.000017\nPosition = 241149225\nExecuted_Gtid_Set = " + u1 + ":1-147," + u2 + ":1-6\n\n[replication]\nFile = src.1\nPosition = 3\n\n[`sakila`.`store`]\nRows = 2\nFile = x\n", "b.000017", 241149225, u1 + ":1-147," + u2 + ":1-6"},
		"mydumper newest":       {"[source]\n#SOURCE_LOG_FILE = \"no\"\nexecuted_gtid_set = \"" + u1 + ":1-2\"\nSOURCE_LOG_FILE = \"b.2\"\nSOURCE_LOG_POS = 157\n", "b.2", 157, u1 + ":1-2"},
		"mydumper, no heading":  {"\tLog: src.9\n\tPos: 9\n", "", 0, ""},
		"mydumper, cut":         {"SHOW MASTER STATUS:\n\tLog: b.1", "", 0, ""},
	} {
		e := Parse("mydumper", Info, tc.text).Evidence
		if e.BinlogFile != tc.file || e.BinlogPos != tc.pos || e.GTID != tc.gtid {
			t.Errorf("%s: %s %d %q", name, e.BinlogFile, e.BinlogPos, e.GTID)
		}
	}
}

func TestGTIDSetSplitOverBatchesIsWhole(t *testing.T) {
	t.Parallel()
	text := "[Xtrabackup] MySQL binlog position: filename 'b.3', position '157', GTID of the last change '" + u1 + ":1-29,\n" + u2 + ":1-5:7,\n" +
		u1[:35] + "b:1,\n" + u1[:35] + "c:1-3'\n220322 19:05:13 completed OK!"
	want := Evidence{BinlogFile: "b.3", BinlogPos: 157, GTID: u1 + ":1-29," + u2 + ":1-5:7," + u1[:35] + "b:1," + u1[:35] + "c:1-3", Completed: true}
	for n := 1; n <= 5; n++ {
		if got := batches("xtrabackup", text, n); !reflect.DeepEqual(got, want) {
			t.Errorf("%d lines at a time: %+v", n, got)
		}
	}
	lost := Merge(Parse("xtrabackup", "", strings.SplitN(text, "\n", 2)[0]).Evidence, Evidence{Completed: true})
	if !strings.HasSuffix(lost.GTID, ",") {
		t.Errorf("a set whose rest was lost looks whole: %q", lost.GTID)
	}
}

func TestLevels(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"[ERROR] x": Error, "[Warning] x": Warn, "[DEBUG] x": Debug, "[INFO] x": Info, "ERROR: x": Error, "WARNING: x": Warn, "Warning: x": Warn, "error : x": Error,
		"2026-11-22 22:24:40 14 [Warning] Access denied for user": Warn, "2026-11-22  9:24:40 0 [ERROR] InnoDB: x": Error,
		"2026-11-22 22:24:40 0 [Note] InnoDB: An error: x":                 Info,
		"2026-11-22T10:00:00.1Z 0 [ERROR] [MY-011825] [Xtrabackup] failed": Error,
		"\amariabackup: Error writing file 'UNKNOWN' (errno: 28)":          Error,
		"[00] FATAL ERROR: 2026-11-22 22:24:40 mariabackup: Error: failed": Error,
		"[00] 2026-11-22 22:24:40 Error: copy_file() failed.":              Error,
		"[00] 2026-11-22 22:24:40 Failed to connect to MariaDB server: x":  Error,
		"xtrabackup: error: x":                                                            Error,
		"mariadb-check: Got error: 1045: Access denied":                                   Error,
		"mysqldump: Error 2013: Lost connection":                                          Error,
		"ERROR 2002 (HY000): Can't connect":                                               Error,
		"error    : Corrupt":                                                              Error,
		"warning  : 1 client is using or hasn't closed the table properly":                Warn,
		"note     : Table does not support optimize, doing recreate + analyze":            Info,
		"status   : Operation failed":                                                     Error,
		"** (mydumper:123): CRITICAL **: 10:00:00.123: Error connecting":                  Error,
		"** (mydumper:123): WARNING **: x":                                                Warn,
		"** Message: 10:00:00.1: Connected to a MySQL server":                             Info,
		"2026/11/22 10:00:00 socat[1234] E connect(5, AF=2, 16): refused":                 Error,
		"2026/11/22 10:00:00 socat[1234] W x":                                             Warn,
		"/usr/bin/dbjobs: line 12: mariabackup: command not found":                        Error,
		"Job optimize ended with state: Error":                                            Error,
		"[01] 2026-11-22 22:24:39 Streaming ./sys/statements_with_errors_or_warnings.frm": "",
		"[01] Streaming ./app/error: x.ibd":                                               "", "app.errors OK": "", "plain": "", "": "", "state: Error": "", "[0] [nonsense] x": "", "no errors: 0": "",
	} {
		for _, batch := range []string{"", Info, Warn, Error, "nonsense"} {
			w := want
			if w == "" {
				w = Normal(batch)
			}
			if got := Parse("x", batch, line+"\nend"); got.Lines[0].Level != w {
				t.Errorf("%q in a batch of %q is %s, want %s", line, batch, got.Lines[0].Level, w)
			}
		}
	}
	if got := Parse("x", "debug", "[Note] x").Lines[0].Level; got != Debug {
		t.Errorf("a note among debug lines is %s", got)
	}
}

func TestEnabled(t *testing.T) {
	t.Parallel()
	order := []string{Debug, Info, Warn, Error}
	for i, least := range order {
		for j, level := range order {
			if Enabled(least, level) != (j >= i) {
				t.Errorf("Enabled(%s, %s) is %v", least, level, j < i)
			}
		}
	}
	for _, tc := range []struct {
		least, level string
		want         bool
	}{{"INFO", "what", true}, {"WARN", "what", false}, {"what", "DEBUG", false}, {"", "", true}, {"warn", "Warning", true}, {"ERR", " error ", true}} {
		if Enabled(tc.least, tc.level) != tc.want {
			t.Errorf("Enabled(%q, %q) is %v", tc.least, tc.level, !tc.want)
		}
	}
}

func TestLinesKeepTheirBytes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"": nil, "\n": nil, "a": {"a"}, "a\nb\n": {"a", "b"}, "a\r\nb\r\n": {"a", "b"}, "a\n\nb": {"a", "", "b"}, "\x1b[1m\ta \uFFFD\x00": {"\x1b[1m\ta \uFFFD\x00"},
		`one INSERT 'x\ny' line`:            {`one INSERT 'x\ny' line`},
		`C:\new`:                            {`C:\new`},
		"a\n" + `[00] b\n[00] c`:            {"a", `[00] b\n[00] c`}, // a real newline: nothing was escaped twice
		`[00] a\n[00] b\n`:                  {"[00] a", "[00] b"},
		`x\n2026-11-22 10:00:00 y`:          {"x", "2026-11-22 10:00:00 y"},
		`Job a initiated.\nJob a completed`: {"Job a initiated.", "Job a completed"},
	} {
		var got []string
		for _, l := range Parse("a", "", text).Lines {
			got = append(got, l.Text)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q is cut into %q", text, got)
		}
	}
}

func TestJobLines(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Evidence{
		"Job mariabackup initiated. pid 12":                         {Initiated: true},
		"Job mariabackup ended with state: Finished":                {Ended: Finished},
		"Job mariabackup ended with state: Error":                   {Ended: Failed},
		"Job mariabackup ended with state: Whatever":                {Ended: Failed},
		"Job mariabackup completed":                                 {Ended: Finished},
		"2026-11-22 10:00:00 [INFO] Job mariabackup completed":      {Ended: Finished},
		"Job optimize completed":                                    {},
		"Streaming Job mariabackup completed":                       {},
		"Job mariabackup completedly":                               {},
		"220322 19:05:13 completed OK!\nJob mariabackup initiated.": {Initiated: true},
	} {
		if got := Parse("mariabackup", Info, text).Evidence; !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

func TestEarlierAttemptDoesNotVouchForTheNext(t *testing.T) {
	t.Parallel()
	first := Evidence{Completed: true, Ended: Finished, BinlogFile: "b.1", BinlogPos: 4, Errors: []string{"x"}}
	if got := Merge(first, Parse("mariabackup", "", "Job mariabackup initiated.").Evidence); !reflect.DeepEqual(got, Evidence{Initiated: true}) {
		t.Errorf("kept %+v", got)
	}
}

func TestMergeLaterWins(t *testing.T) {
	t.Parallel()
	a := Evidence{Tool: "t", Version: "1", BinlogFile: "b.1", BinlogPos: 4, GTID: "0-1-1", Initiated: true, Errors: []string{"x"}}
	b := Evidence{Version: "2", BinlogFile: "b.2", BinlogPos: 5, Completed: true, Ended: Failed, Errors: []string{"x", "y"}}
	want := Evidence{Tool: "t", Version: "2", BinlogFile: "b.2", BinlogPos: 5, Initiated: true, Completed: true, Ended: Failed, Errors: []string{"x", "y"}}
	if got := Merge(a, b); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	if len(a.Errors) != 1 {
		t.Error("Merge changed its argument")
	}
}

func TestErrorsAreBounded(t *testing.T) {
	t.Parallel()
	var e Evidence
	for i := range 30 {
		e = Merge(e, Parse("optimize", "", fmt.Sprintf("ERROR: %d %s\nERROR: again", i, strings.Repeat("é", 2000))).Evidence)
	}
	if len(e.Errors) != MaxErrors || !strings.HasPrefix(e.Errors[0], "ERROR: 0 ") || e.Errors[1] != "ERROR: again" {
		t.Errorf("%d errors, first %.20q", len(e.Errors), e.Errors[0])
	}
	for _, s := range e.Errors {
		if len(s) > MaxError || !utf8.ValidString(s) {
			t.Errorf("an error of %d bytes, valid %v", len(s), utf8.ValidString(s))
		}
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][2]string{
		"mariadb-backup based on MariaDB server 11.4.2-MariaDB Linux (x86_64)":                                     {"mariadb-backup", "11.4.2-MariaDB"},
		"xtrabackup version 8.0.35-30 based on MySQL server 8.0.35 Linux (x86_64) (revision id: 6beb4b49)":         {"xtrabackup", "8.0.35-30"},
		"2026-11-22T10:00:00.1Z 0 [Note] [MY-1] [Xtrabackup] xtrabackup version 8.0.35-30 based on MySQL server x": {"xtrabackup", "8.0.35-30"},
		"mydumper v0.16.3-2, built against MySQL 8.4.0 with SSL support":                                           {"mydumper", "0.16.3-2"},
		"mydumper 0.10.0, built against MySQL 5.7.21-21":                                                           {"mydumper", "0.10.0"},
		"** Message: 10:00:00.1: MyDumper backup version: 0.16.3-2":                                                {"mydumper", "0.16.3-2"},
		"-- MariaDB dump 10.19  Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)":                           {"mariadb-dump", "10.19"},
		"-- MySQL dump 10.13  Distrib 8.0.36, for Linux (x86_64)":                                                  {"mysqldump", "10.13"},
		"a table based on nothing": {"", ""},
	} {
		if e := Parse("x", "", line).Evidence; e.Tool != want[0] || e.Version != want[1] {
			t.Errorf("%q: %s %s", line, e.Tool, e.Version)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"mariabackup_full.log", "mariadb-check_corrupt.log", "mariabackup_prepare.log"} {
		f.Add("mariabackup", "DEBUG", fixture(f, name))
	}
	f.Add("xtrabackup", "", "MySQL binlog position: filename 'b.3', position '157', GTID of the last change '"+u1+":1-29,\n"+u2+":1'\nSHOW MASTER STATUS:\nLog: x\nPos: 4")
	f.Fuzz(func(t *testing.T, task, level, text string) {
		b := Parse(task, level, text)
		for _, l := range b.Lines {
			if _, ok := rank[l.Level]; !ok || !strings.Contains(text, l.Text) {
				t.Fatalf("line %+v", l)
			}
		}
		if len(b.Evidence.Errors) > MaxErrors || b.Evidence.Completed && !strings.Contains(text, "completed OK!") {
			t.Fatalf("evidence %+v", b.Evidence)
		}
		if once := Merge(Evidence{}, b.Evidence); !reflect.DeepEqual(once, Merge(once, b.Evidence)) {
			t.Fatalf("the same batch twice changes %+v to %+v", once, Merge(once, b.Evidence))
		}
	})
}

func BenchmarkParseFiveLines(b *testing.B) {
	text := strings.Repeat("[01] 2026-11-22 22:24:39 Streaming ./app/orders.ibd to <STDOUT>\n", 4) + "2026-11-22 22:24:40 0 [Note] InnoDB: Starting shutdown...\n"
	b.ReportAllocs()
	for b.Loop() {
		Parse("mariabackup", Debug, text)
	}
}
