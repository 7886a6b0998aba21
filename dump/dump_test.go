package dump

import (
	"archive/tar"
	"bytes"
	"errors"
	"strings"
	"testing"
)

const (
	mariaHead = "/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump 10.19  Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)\n--\n-- Host: 127.0.0.1    Database: \n" +
		"-- CHANGE MASTER TO MASTER_USE_GTID=slave_pos;\n\n-- CHANGE MASTER TO MASTER_LOG_FILE='bin.000001', MASTER_LOG_POS=322;\n\n--\n-- Current Database: `shop`\n--\n"
	mariaBody = "\nCREATE TABLE `a` (\n  `i` int(11)\n);\nINSERT INTO `a` VALUES (1);\n"
	mariaTail = "\n-- The deferred gtid setting for slave corresponding to the master-data CHANGE-MASTER follows\n\n-- SET GLOBAL gtid_slave_pos='0-1-17';\n"
	end       = "\n/*!40111 SET SQL_NOTES=@OLD_SQL_NOTES */;\n\n-- Dump completed on 2026-11-25 22:49:30\n"
	mysqlHead = "-- MySQL dump 10.13  Distrib 8.0.40, for Linux (x86_64)\nSET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ '00000000-0000-0000-0000-000000000001:1-5,\n00000000-0000-0000-0000-000000000002:1';\n" +
		"-- CHANGE REPLICATION SOURCE TO SOURCE_LOG_FILE='binlog.000004', SOURCE_LOG_POS=157;\n-- Current Database: `shop`\n"
)

func TestTextDumps(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want error
		pos  Position
		tool string
	}{
		"MariaDB":        {mariaHead + mariaBody + mariaTail + end, nil, Position{"bin.000001", 322, "0-1-17", false}, "mariadb-dump 10.11.19-MariaDB"},
		"MySQL":          {mysqlHead + mariaBody + end, nil, Position{"binlog.000004", 157, "00000000-0000-0000-0000-000000000001:1-5,00000000-0000-0000-0000-000000000002:1", false}, "mysqldump 8.0.40"},
		"without a date": {mariaHead + mariaBody + "\n-- Dump completed\n", nil, Position{"bin.000001", 322, "", false}, "mariadb-dump 10.11.19-MariaDB"},
		"of a source": {strings.Replace(mariaHead, "-- CHANGE MASTER TO MASTER_USE", "-- Position to start replication or point-in-time recovery from (the master of this slave)\n-- CHANGE MASTER TO MASTER_USE", 1) + mariaBody + end,
			nil, Position{"bin.000001", 322, "", true}, "mariadb-dump 10.11.19-MariaDB"},
		"--dump-slave": {"-- MariaDB dump 10.19  Distrib 10.11.19-MariaDB, for x\n-- CHANGE MASTER '' TO MASTER_HOST='10.0.0.1', MASTER_PORT=3306, MASTER_LOG_FILE='src.3', MASTER_LOG_POS=5;\n-- Current Database: `shop`\n" + mariaBody + end,
			nil, Position{"src.3", 5, "", true}, "mariadb-dump 10.11.19-MariaDB"},
		"no position":             {"-- MariaDB dump 10.19  Distrib 10.11.19-MariaDB, for x\n-- Table structure for table `a`\n" + mariaBody + end, nil, Position{}, "mariadb-dump 10.11.19-MariaDB"},
		"a position in user data": {"-- Table structure for table `a`\nCHANGE MASTER TO MASTER_LOG_FILE='evil', MASTER_LOG_POS=1;\nSET GLOBAL gtid_slave_pos='6-6-6';" + mariaBody + end, nil, Position{}, ""},
		"cut":                     {mariaHead + mariaBody, ErrTruncated, Position{}, ""},
		"cut in the marker":       {mariaHead + mariaBody + "\n-- Dump completed on 2026-", ErrTruncated, Position{}, ""},
		"marker in the middle":    {mariaHead + mariaBody + end + "more", ErrTruncated, Position{}, ""},
		"nothing":                 {"", ErrEmpty, Position{}, ""},
		"no table":                {mariaHead + end, ErrEmpty, Position{}, ""},
	} {
		for _, size := range []int{1, 7, 4096, 1 << 20} { // whatever the size of the writes
			for _, padding := range []int{0, 3 * tailMax} {
				text := c.text
				if padding > 0 { // a long dump has neither all of its head nor of its tail in one piece
					text = strings.Replace(text, "VALUES (1)", "VALUES ('"+strings.Repeat("x", padding)+"')", 1)
				}
				var s SQL
				for b := []byte(text); len(b) > 0; b = b[min(size, len(b)):] {
					if n, err := s.Write(b[:min(size, len(b))]); n != min(size, len(b)) || err != nil {
						t.Fatal(n, err)
					}
				}
				if err := s.Close(); !errors.Is(err, c.want) || c.want == nil && err != nil {
					t.Errorf("%s in writes of %d: %v, want %v", name, size, err, c.want)
				} else if err == nil && (s.Position() != c.pos || s.Tool() != c.tool) {
					t.Errorf("%s in writes of %d: %+v by %q", name, size, s.Position(), s.Tool())
				}
				if len(s.last) > 2*tailMax {
					t.Errorf("%s: %d bytes are kept", name, len(s.last))
				}
			}
		}
	}
}

const (
	oldMetadata = "Started dump at: 2026-11-25 22:49:30\nSHOW MASTER STATUS:\n\tLog: bin.000001\n\tPos: 322\n\tGTID:0-1-4\n\nSHOW SLAVE STATUS:\n\tConnection name: \n\tHost: 10.0.0.1\n\tLog: src.000009\n\tPos: 932\n\tGTID:0-1-3\n\nFinished dump at: 2026-11-25 22:49:30\n"
	newMetadata = "# Started dump at: 2026-11-25 22:49:30\n[config]\nquote_character = BACKTICK\n\n[source]\nFile = bin.000001\nPosition = 322\nExecuted_Gtid_Set = \"0-1-4\"\n\n[`shop`.`void`]\nreal_table_name=void\nrows = 0\n\n# Finished dump at: 2026-11-25 22:49:31\n"
	onlySource  = "SHOW SLAVE STATUS:\n\tConnection name: \n\tHost: 10.0.0.1\n\tLog: src.000009\n\tPos: 932\n\tGTID:0-1-9\n\tConnection name: b\n\tLog: other.1\n\tPos: 4\n\nFinished dump at: 2026-11-25 22:49:30\n"
)

// pack makes an archive of names and contents, in turn.
func pack(t *testing.T, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Size: int64(len(files[i+1])), Mode: 0o600, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFolderDumps(t *testing.T) {
	t.Parallel()
	shop := []string{"shop-schema-create.sql", "x", "shop.a-schema.sql", "x", "shop.a.sql", "", "shop.a-schema-triggers.sql", "x",
		"shop.5-schema.sql", "x", "shop.5.00001.sql.gz", "x", "shop.v-schema.sql", "x", "shop.v-schema-view.sql", "x"}
	with := func(more ...string) []byte { return pack(t, append(append([]string(nil), shop...), more...)...) }
	whole := with("metadata", oldMetadata)
	own := Position{"bin.000001", 322, "0-1-4", false}
	for name, c := range map[string]struct {
		data []byte
		want error
		pos  Position
	}{
		"old metadata":             {whole, nil, own},
		"entries below ./":         {pack(t, "./shop.a-schema.sql", "x", "./shop.a.sql", "x", "./metadata", oldMetadata), nil, own},
		"new metadata":             {with("shop.void-schema.sql", "x", "metadata", newMetadata), nil, own},
		"only a source's position": {with("metadata", onlySource), nil, Position{"src.000009", 932, "0-1-9", true}},
		"a log without the rest":   {with("metadata", strings.Replace(oldMetadata, "0-1-3", "0-1-9", 1)), nil, Position{"src.000009", 932, "0-1-9", true}},
		"a log of one domain":      {with("metadata", strings.Replace(oldMetadata, "0-1-3", "0-1-3,7-1-2", 1)), nil, Position{"src.000009", 932, "0-1-3,7-1-2", true}},
		"padded as by tar":         {append(bytes.Clone(whole), make([]byte, 8192)...), nil, own},
		"rows missing":             {with("shop.b-schema.sql", "x", "metadata", oldMetadata), ErrMissing, Position{}},
		"rows of a like name":      {with("shop.b-schema.sql", "x", "shop.bb.sql", "x", "metadata", oldMetadata), ErrMissing, Position{}},
		"no metadata":              {with(), ErrTruncated, Position{}},
		"metadata.partial":         {with("metadata.partial", oldMetadata), ErrTruncated, Position{}},
		"not finished":             {with("metadata", strings.Replace(oldMetadata, "Finished", "Fin", 1)), ErrTruncated, Position{}},
		"no table":                 {pack(t, "shop-schema-create.sql", "x", "metadata", oldMetadata), ErrEmpty, Position{}},
		"no end blocks":            {whole[:len(whole)-1024], ErrTruncated, Position{}},
		"half an end":              {whole[:len(whole)-512], ErrTruncated, Position{}},
		"cut in a file":            {whole[:700], ErrTruncated, Position{}},
		"cut between files":        {whole[:1024], ErrTruncated, Position{}},
		"nothing":                  {nil, ErrTruncated, Position{}},
		"no archive":               {[]byte(strings.Repeat("what is this? ", 1000)), ErrTruncated, Position{}},
		"another folder":           {pack(t, "../../etc/passwd", "x"), ErrMissing, Position{}},
	} {
		for _, size := range []int{100, 1 << 20} {
			s := NewTar()
			for b := c.data; len(b) > 0; b = b[min(size, len(b)):] {
				if n, err := s.Write(b[:min(size, len(b))]); n != min(size, len(b)) || err != nil {
					t.Fatal(n, err)
				}
			}
			if err := s.Close(); !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			} else if err == nil && s.Position() != c.pos {
				t.Errorf("%s: %+v", name, s.Position())
			}
		}
	}
}
