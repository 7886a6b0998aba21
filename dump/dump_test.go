package dump

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
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
		"its last byte cut":       {strings.TrimSuffix(mariaHead+mariaBody+end, "\n"), ErrTruncated, Position{}, ""},
		"cut behind the marker":   {mariaHead + mariaBody + "\n-- Dump completed", ErrTruncated, Position{}, ""},
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
func pack(t testing.TB, files ...string) []byte {
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

// gz packs a text as mydumper does.
func gz(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestFolderDumps(t *testing.T) {
	t.Parallel()
	shop := []string{"shop-schema-create.sql", "x;\n", "shop.a-schema.sql", "x;\n", "shop.a.sql", "", "shop.a-schema-triggers.sql", "x;\n",
		"shop.5-schema.sql", "x;\n", "shop.5.00001.sql.gz", gz(t, "INSERT;\n"), "shop.v-schema.sql", "x;\n", "shop.v-schema-view.sql", "x;\n"}
	with := func(more ...string) []byte { return pack(t, append(append([]string(nil), shop...), more...)...) }
	whole := with("metadata", oldMetadata)
	own := Position{"bin.000001", 322, "0-1-4", false}
	for name, c := range map[string]struct {
		data []byte
		want error
		pos  Position
	}{
		"old metadata":             {whole, nil, own},
		"entries below ./":         {pack(t, "./shop.a-schema.sql", "x;\n", "./shop.a.sql", "x;\n", "./metadata", oldMetadata), nil, own},
		"new metadata":             {with("shop.void-schema.sql", "x;\n", "metadata", newMetadata), nil, own},
		"only a source's position": {with("metadata", onlySource), nil, Position{"src.000009", 932, "0-1-9", true}},
		"a log without the rest":   {with("metadata", strings.Replace(oldMetadata, "0-1-3", "0-1-9", 1)), nil, Position{"src.000009", 932, "0-1-9", true}},
		"a log of one domain":      {with("metadata", strings.Replace(oldMetadata, "0-1-3", "0-1-3,7-1-2", 1)), nil, Position{"src.000009", 932, "0-1-3,7-1-2", true}},
		"padded as by tar":         {append(bytes.Clone(whole), make([]byte, 8192)...), nil, own},
		"schema missing":           {with("shop.b.sql", "x;", "metadata", oldMetadata), ErrMissing, Position{}},
		"database missing":         {with("store.b-schema.sql", "x;", "store.b.sql", "x;", "metadata", oldMetadata), ErrMissing, Position{}},
		"triggers of nothing":      {with("shop.b-schema-triggers.sql", "x;", "metadata", oldMetadata), ErrMissing, Position{}},
		"a table like a suffix":    {with("shop.b-schema-create-schema.sql", "x;", "shop.b-schema-create.sql", "x;", "metadata", oldMetadata), nil, own},
		"several files":            {with("shop.b-schema.sql", "x;", "shop.b.00000.sql", "x;", "shop.b.00001.sql", "x;", "metadata", oldMetadata), nil, own},
		"one of several missing":   {with("shop.b-schema.sql", "x;", "shop.b.00000.sql", "x;", "shop.b.00002.sql", "x;", "metadata", oldMetadata), ErrMissing, Position{}},
		"the first one missing":    {with("shop.b-schema.sql", "x;", "shop.b.00002.sql", "x;", "metadata", oldMetadata), ErrMissing, Position{}},
		"gaps of newer versions":   {with("shop.void-schema.sql", "x;", "shop.b-schema.sql", "x;", "shop.b.00003.sql", "x;", "metadata", newMetadata), nil, own},
		"other files":              {with("shop-schema-post.sql", "DELIMITER //", "shop.a-schema-sequence.sql", "x;", "metadata", oldMetadata), nil, own},
		"a file cut":               {with("shop.b-schema.sql", "x;", "shop.b.sql", "INSERT INTO `b` VALUES (1,", "metadata", oldMetadata), ErrTruncated, Position{}},
		"a packed file cut":        {with("shop.b-schema.sql.gz", gz(t, "CREATE;")[:20], "metadata", oldMetadata), ErrTruncated, Position{}},
		"no packed file":           {with("shop.b-schema.sql.zst", "CREATE;", "metadata", oldMetadata), ErrTruncated, Position{}},
		"one byte short":           {append(bytes.Clone(whole), make([]byte, 8191)...), ErrTruncated, Position{}},
		"rows missing":             {with("shop.b-schema.sql", "x;\n", "metadata", oldMetadata), ErrMissing, Position{}},
		"rows of a like name":      {with("shop.b-schema.sql", "x;\n", "shop.bb.sql", "x;\n", "metadata", oldMetadata), ErrMissing, Position{}},
		"no metadata":              {with(), ErrTruncated, Position{}},
		"metadata.partial":         {with("metadata.partial", oldMetadata), ErrTruncated, Position{}},
		"not finished":             {with("metadata", strings.Replace(oldMetadata, "Finished", "Fin", 1)), ErrTruncated, Position{}},
		"no table":                 {pack(t, "shop-schema-create.sql", "x;\n", "metadata", oldMetadata), ErrEmpty, Position{}},
		"no end blocks":            {whole[:len(whole)-1024], ErrTruncated, Position{}},
		"half an end":              {whole[:len(whole)-512], ErrTruncated, Position{}},
		"cut in a file":            {whole[:700], ErrTruncated, Position{}},
		"cut between files":        {whole[:1024], ErrTruncated, Position{}},
		"nothing":                  {nil, ErrTruncated, Position{}},
		"no archive":               {[]byte(strings.Repeat("what is this? ", 1000)), ErrTruncated, Position{}},
		"another folder":           {pack(t, "../../etc/passwd", "x;\n"), ErrMissing, Position{}},
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
