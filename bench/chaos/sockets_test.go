package main

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A list of sockets that cannot be read looks like one without leaks. Here the process that is looked at is this one.
func TestPortsThatLeakOrAreNotThereAreFound(t *testing.T) {
	t.Parallel()
	port := func() int {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l.Addr().(*net.TCPAddr).Port
	}
	api, bus, leak := port(), port(), port()
	judged := func(s site, reserved int) string {
		s.parts = map[string]*process{whole: {cmd: &exec.Cmd{Process: &os.Process{Pid: os.Getpid()}}}}
		var v verdict
		v.checkPorts(&s, reserved)
		var all []string
		for _, x := range v.Violations {
			all = append(all, x.String())
		}
		return strings.Join(all, "\n")
	}
	if said := judged(site{api: api, nats: bus}, 0); !strings.Contains(said, "no job needs it") || strings.Contains(said, "does not listen") {
		t.Errorf("with port %d beside its own it says %q", leak, said)
	}
	if said := judged(site{api: api, nats: 1}, 0); !strings.Contains(said, "does not listen on port 1") {
		t.Errorf("without the bus it says %q", said)
	}
	if said := judged(site{api: api, nats: bus}, 2); !strings.Contains(said, "2 ports are in use") {
		t.Errorf("with ports reserved it says %q", said)
	}
}
