package job

import "testing"

func TestATaskRunsWhereItMustWhateverTheKeySays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		task   string
		remote []string
		local  bool
	}{
		{"optimize", nil, false},
		{"optimize", []string{}, true},
		{"optimize", []string{"mysqldump"}, true},
		{"optimize", []string{"mysqldump", "optimize"}, false},
		{"mariabackup", nil, false},
		{"mariabackup", []string{}, false},
		{"errorlog", []string{"optimize"}, false},
		{"analyze", nil, true},
		{"analyze", []string{"analyze"}, true},
		{"schemamonitor", []string{}, true},
		{"mysqldump", nil, true},
		{"mysqldump", []string{"optimize"}, true},
		{"mysqldump", []string{"mysqldump"}, false},
		{"restart", nil, false},
		{"restart", []string{}, true},
	} {
		task, err := TaskByName(c.task)
		if err != nil || task.Local(c.remote) != c.local {
			t.Errorf("%s with %#v: local %v, %v", c.task, c.remote, !c.local, err)
		}
	}
}
