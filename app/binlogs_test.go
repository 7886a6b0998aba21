package app

import (
	"reflect"
	"testing"
)

// The hint must be a statement that one can type.
func TestMissingRightsForTheBinaryLogAreNamed(t *testing.T) {
	tests := map[string]struct {
		grants  string
		mariadb bool
		missing []string
	}{
		"all":          {"GRANT ALL PRIVILEGES ON *.* TO `d`@`%`\n", true, nil},
		"both":         {"GRANT BINLOG MONITOR, REPLICATION SLAVE ON *.* TO `d`@`%`\n", true, nil},
		"none":         {"GRANT USAGE ON *.* TO `d`@`%`\n", true, []string{"REPLICATION SLAVE", "BINLOG MONITOR"}},
		"one":          {"GRANT SELECT, BINLOG MONITOR ON *.* TO `d`@`%`\n", true, []string{"REPLICATION SLAVE"}},
		"MySQL":        {"GRANT SELECT ON *.* TO `d`@`%`\n", false, []string{"REPLICATION SLAVE", "REPLICATION CLIENT"}},
		"of one base":  {"GRANT ALL PRIVILEGES ON `shop`.* TO `d`@`%`\n", true, []string{"REPLICATION SLAVE", "BINLOG MONITOR"}},
		"old MariaDB":  {"GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO `d`@`%`\n", true, nil},
		"ADMIN is not": {"GRANT REPLICATION SLAVE ADMIN, BINLOG MONITOR ON *.* TO `d`@`%`\n", true, []string{"REPLICATION SLAVE"}},
	}
	for name, tt := range tests {
		if got := logRights(tt.grants, tt.mariadb); !reflect.DeepEqual(got, tt.missing) {
			t.Errorf("%s: %v, want %v", name, got, tt.missing)
		}
	}
	if got := account("o'neil@10.0.%"); got != "'o''neil'@'10.0.%'" {
		t.Error(got)
	}
}
