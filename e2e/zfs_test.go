package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/job"
)

// zfsScript is a stand-in for zfs with one data set, mounted on one folder, whose snapshots are copies. It takes the calls
// that the script is to make, argument by argument, and nothing else; like the tool it rolls back to the newest snapshot
// only, and says of a path that is not on it that it is not. Filled with mount point and the folder of the snapshots.
const zfsScript = `#!/bin/bash
mount=%[1]s snaps=%[2]s
echo "$*" >>"$snaps/said"
case "$*" in
"list -H -o name,mountpoint -t filesystem -- "*)
	[[ ${!#}/ == "$mount"/* ]] || { echo "cannot open '${!#}': not a ZFS filesystem" >&2; exit 1; }
	printf 'tank/db\t%%s\n' "$mount"
	;;
'list -H -o name -t snapshot -s creation -d 1 -- tank/db') sed 's/^/tank\/db@/' "$snaps/order" ;;
'rollback tank/db@'*)
	name=${2#*@}
	[[ ! -e $snaps/FAIL ]] || { echo "cannot rollback to '$2': I/O error" >&2; exit 1; }
	[[ $(tail -n 1 "$snaps/order") == "$name" ]] || { echo "cannot rollback to '$2': more recent snapshots or bookmarks exist" >&2; exit 1; }
	[[ ! -e $snaps/pidfile ]] || ! kill -0 "$(<"$(<"$snaps/pidfile")")" 2>/dev/null || { echo 'the server runs' >&2; exit 1; }
	[[ ! $(find /proc/[0-9]*/fd -lname "$mount/*" -print -quit 2>/dev/null) ]] || { echo 'files of it are open' >&2; exit 1; }
	find "$mount" -mindepth 1 -delete && cp -a "$snaps/$name/." "$mount/"
	;;
*) echo "zfs: unexpected arguments: $*" >&2; exit 2 ;;
esac
`

// pool is the stand-in and its snapshots.
type pool struct {
	t     *testing.T
	dir   string // holds zfs and the snapshots
	mount string
}

func newPool(t *testing.T, m *mariadbd.Server, mount string) *pool {
	t.Helper()
	p := &pool{t: t, dir: t.TempDir(), mount: mount}
	p.write("zfs", fmt.Sprintf(zfsScript, "'"+mount+"'", "'"+p.dir+"'"))
	p.write("pidfile", filepath.Join(m.Dir(), "mariadbd.pid"))
	p.write("order", "")
	return p
}

func (p *pool) write(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o755); err != nil {
		p.t.Fatal(err)
	}
}

// snapshot takes one, as of a server that was killed: of a stopped server, which is as good here.
func (p *pool) snapshot(name string, service *mariadbdtest.Service) {
	p.t.Helper()
	run := func(args ...string) {
		p.t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			p.t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	run(service.Systemctl(), "stop", service.Unit)
	run("cp", "-a", p.mount, filepath.Join(p.dir, name))
	run(service.Systemctl(), "start", service.Unit)
	order, err := os.ReadFile(filepath.Join(p.dir, "order"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.write("order", string(order)+name+"\n")
}

func (p *pool) said() string {
	data, _ := os.ReadFile(filepath.Join(p.dir, "said"))
	return string(data)
}

func (s *site) count(table string) (n int) {
	s.t.Helper()
	if err := query(s.t, s.servers[0]).QueryRowContext(bustest.Context(s.t), "SELECT COUNT(*) FROM "+table).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// snapback runs the task with the script and returns the job at its end.
func (s *site) snapback(h *host, more ...string) job.Job {
	s.t.Helper()
	out := s.mustCLI(append([]string{"run", "lab", "zfssnapback", "--confirm", "--server", s.servers[0].Addr()}, more...)...)
	id := strings.Fields(out)[0]
	s.awaitState(id, "zfssnapback", job.Available)
	h.cycle()
	return s.awaitEnd(id, "zfssnapback")
}

func TestZFSSnapbackRollsBackAndFailuresLeaveTheServerUp(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			m := mariadbdtest.Start(t, mariadbd.Options{Password: password})
			s := newSite(t, options{mode: mode, servers: []*mariadbd.Server{m}}).start()
			service := mariadbdtest.NewService(t, m, "db")
			p := newPool(t, m, m.DataDir())
			h := serviceHost(s, service, "PATH="+p.dir+":"+service.Path())
			query(t, m, "CREATE DATABASE shop", "CREATE TABLE shop.a (i INT)", "INSERT INTO shop.a VALUES (1)")
			p.snapshot("old", service)
			query(t, m, "INSERT INTO shop.a VALUES (2)")
			p.snapshot("new", service)
			query(t, m, "INSERT INTO shop.a VALUES (3)")

			// What must not work, or fails, leaves the data and the server as they are.
			if out, err := s.cli("run", "lab", "zfssnapback", "--server", m.Addr()); err == nil || !strings.Contains(out, "--confirm") {
				t.Errorf("without --confirm: %v, %s", err, out)
			}
			for _, c := range []struct {
				more  []string
				spoil func(on bool)
				want  string
			}{
				{[]string{"--snapshot", "old"}, nil, "newer than tank/db@old"},
				{[]string{"--snapshot", "never"}, nil, "no snapshot tank/db@never"},
				{nil, func(on bool) { p.fail(on) }, "I/O error"},
				{nil, func(on bool) { service.Fail(t, "stop", on) }, "Job for db failed"},
			} {
				if c.spoil != nil {
					c.spoil(true)
				}
				j := s.snapback(h, c.more...)
				if j.State == job.Success || !strings.Contains(j.Reason, c.want) {
					t.Errorf("%v: %s (%s), want %q", c.more, j.State, j.Reason, c.want)
				}
				mustAnswer(t, m, true)
				if n := s.count("shop.a"); n != 3 {
					t.Errorf("after %q there are %d rows", c.want, n)
				}
				if c.spoil != nil {
					c.spoil(false)
				}
			}

			j := s.snapback(h, "--snapshot", "new")
			if j.State != job.Success {
				t.Fatalf("%s (%s)\n%s\n%s", j.State, j.Reason, j.Evidence.Result, p.said())
			}
			mustAnswer(t, m, true)
			if n := s.count("shop.a"); n != 2 {
				t.Errorf("after going back to the newest there are %d rows", n)
			}
			s.checkNoSecret(h)
		})
	}
}

func TestZFSSnapbackWaitsUntilTheServerHasLetGoOfItsFiles(t *testing.T) {
	t.Parallel()
	m := mariadbdtest.Start(t, mariadbd.Options{Password: password})
	s := newSite(t, options{mode: "api", servers: []*mariadbd.Server{m}}).start()
	service := mariadbdtest.NewService(t, m, "db")
	p := newPool(t, m, m.DataDir())
	// It comes back when nobody answers any more; a process has files of the data open for some seconds longer.
	stop := fmt.Sprintf("%q stop db && { sleep 3 <%q >/dev/null 2>&1 & }", service.Systemctl(), filepath.Join(m.DataDir(), "ibdata1"))
	h := serviceHost(s, service, "PATH="+p.dir+":"+service.Path(), "DRYDOCK_STOP_COMMAND="+stop)
	query(t, m, "CREATE DATABASE shop", "CREATE TABLE shop.a (i INT)")
	p.snapshot("new", service)
	query(t, m, "INSERT INTO shop.a VALUES (1)")
	if j := s.snapback(h); j.State != job.Success {
		t.Fatalf("%s (%s)\n%s\n%s", j.State, j.Reason, j.Evidence.Result, p.said())
	}
	if n := s.count("shop.a"); n != 0 {
		t.Errorf("after going back there are %d rows", n)
	}
}

func (p *pool) fail(on bool) {
	p.t.Helper()
	if on {
		p.write("FAIL", "")
	} else if err := os.Remove(filepath.Join(p.dir, "FAIL")); err != nil {
		p.t.Fatal(err)
	}
}

func TestZFSSnapbackRefusesWhatIsNotTheServersOwnDataSet(t *testing.T) {
	t.Parallel()
	m := mariadbdtest.Start(t, mariadbd.Options{Password: password})
	s := newSite(t, options{mode: "api", servers: []*mariadbd.Server{m}}).start()
	service := mariadbdtest.NewService(t, m, "db")
	for _, c := range []struct{ mount, want string }{
		{t.TempDir(), "is not on ZFS"},
		{m.Dir(), "DRYDOCK_ZFS_DATASET"},
		{m.DataDir(), "has no snapshot"},
	} {
		p := newPool(t, m, c.mount)
		h := serviceHost(s, service, "PATH="+p.dir+":"+service.Path())
		if j := s.snapback(h); j.State == job.Success || !strings.Contains(j.Evidence.Result, c.want) {
			t.Errorf("%s: %s, %s", c.want, j.State, j.Evidence.Result)
		}
		if said := service.Said(t); said != "" {
			t.Errorf("%s: systemctl %s", c.want, said)
		}
		if strings.Contains(p.said(), "rollback") {
			t.Errorf("%s: rolled back", c.want)
		}
	}
}
