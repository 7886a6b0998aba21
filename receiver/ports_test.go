package receiver

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

func unsigned(m store.Manifest) (store.Manifest, error) { return m, nil }

func TestPoolThatCannotWorkIsRefusedAtStart(t *testing.T) {
	t.Parallel()
	ports := freePorts(t, 2)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	taken := busy.Addr().(*net.TCPAddr).Port
	conn := bustest.Start(t)
	for name, c := range map[string]struct {
		edit func(*Config)
		want []string
	}{
		"busy port":     {func(c *Config) { c.Ports = []int{ports[0], taken} }, []string{portsKey, strconv.Itoa(taken), "in use by another program"}},
		"own port":      {func(c *Config) { c.Ports, c.Reserved = []int{10005}, []int{10001, 10005} }, []string{portsKey, "10005", "drydock's own"}},
		"duplicate":     {func(c *Config) { c.Ports = []int{ports[0], ports[1], ports[0]} }, []string{portsKey, strconv.Itoa(ports[0]), "twice"}},
		"no port":       {func(c *Config) { c.Ports = []int{70000} }, []string{portsKey, "70000", "not a port number"}},
		"two at once":   {func(c *Config) { c.Ports = []int{0, taken} }, []string{"port 0", strconv.Itoa(taken)}},
		"foreign bind":  {func(c *Config) { c.Bind, c.Ports = "192.0.2.77", ports[:1] }, []string{strconv.Itoa(ports[0]), "cannot be bound"}},
		"nowhere to":    {func(c *Config) { c.Address = "" }, []string{"address"}},
		"bad hash":      {func(c *Config) { c.Clusters = map[string]Cluster{"prod": {Hash: "md5"}} }, []string{"backup-hash", "md5"}},
		"bad compress":  {func(c *Config) { c.Clusters = map[string]Cluster{"prod": {Compress: "rar"}} }, []string{"compress-backups", "rar"}},
		"climbing name": {func(c *Config) { c.Clusters = map[string]Cluster{"../../etc": {}} }, []string{"../../etc"}},
		"our folder":    {func(c *Config) { c.Clusters = map[string]Cluster{"nats": {}} }, []string{"nats"}},
		"climbing host": {func(c *Config) {
			c.Clusters = map[string]Cluster{"prod": {Servers: []job.Server{{Host: "../x", Port: 3306}}}}
		}, []string{"../x"}},
	} {
		cfg := Config{Name: "rcv", DataDir: t.TempDir(), Bind: "127.0.0.1", Address: "127.0.0.1", Log: bustest.Log(t), Sign: unsigned}
		c.edit(&cfg)
		_, err := New(cfg, conn, nil, store.NewView(conn), nil)
		if !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not say %q", name, err, w)
			}
		}
	}
	if _, err := newPorts("127.0.0.1", ports, nil); err != nil {
		t.Errorf("a good pool: %v", err)
	}
}

func TestExhaustedPoolNeverLeavesItself(t *testing.T) {
	t.Parallel()
	pool := freePorts(t, 2)
	g := newRig(t, func(c *Config) { c.Ports = pool })
	a, b := g.offered(g.queued("errorlog")), g.offered(g.queued("slowquery"))
	if a.Dispatch.Port == b.Dispatch.Port {
		t.Fatal("one port for two")
	}
	waits := g.queued("auditlog")
	_, err := g.open(waits)
	var se *bus.ServiceError
	if !errors.As(err, &se) || se.Code != bus.CodeExhausted {
		t.Fatalf("third of two ports: %v", err)
	}
	for _, w := range []string{portsKey, strconv.Itoa(pool[0]), strconv.Itoa(pool[1]), a.ID, b.ID, "prod/127.0.0.1:3306/errorlog"} {
		if !strings.Contains(se.Message, w) {
			t.Errorf("%q does not say %q", se.Message, w)
		}
	}
	// What Prometheus is told of it.
	if got, err := bus.Request[bus.PortsReply](bustest.Context(t), g.conn, bus.ReceiverSubject("rcv", bus.VerbPorts), struct{}{}); err != nil || got.InUse != 2 || got.Total != 2 {
		t.Errorf("ports: %+v, %v", got, err)
	}
	g.event(a, job.Start)
	g.streamed(a, nil)
	if got := g.offered(waits); got.Dispatch.Port != a.Dispatch.Port {
		t.Errorf("the freed port is %d, got %d", a.Dispatch.Port, got.Dispatch.Port)
	}
}

func TestPortTakenByAnotherProgramIsPassedOver(t *testing.T) {
	t.Parallel()
	pool := freePorts(t, 2)
	g := newRig(t, func(c *Config) { c.Ports = pool })
	thief, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(pool[0])))
	if err != nil {
		t.Fatal(err)
	}
	defer thief.Close()
	if j := g.offered(g.queued("errorlog")); j.Dispatch.Port != pool[1] {
		t.Errorf("got port %d", j.Dispatch.Port)
	}
	if _, err := g.open(g.queued("slowquery")); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("the message does not say why port %d is not used: %v", pool[0], err)
	}
}

// Ten thousand offers of a fleet whose script does not run would leave the bus no file to open.
func TestPortsThatNobodyNamedAreNotWithoutEnd(t *testing.T) {
	t.Parallel()
	p, err := newPorts("127.0.0.1", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for port := range MostPorts - 1 {
		p.held[-port] = "x"
	}
	ln, port, err := p.listen("the last")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if _, _, err := p.listen("one more"); !errors.Is(err, errExhausted) || !strings.Contains(err.Error(), "4096") {
		t.Errorf("one more: %v", err)
	}
	p.release(port)
	again, _, err := p.listen("again")
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestPortsAreTakenInTurn(t *testing.T) {
	t.Parallel()
	p, err := newPorts("127.0.0.1", freePorts(t, 3), nil)
	if err != nil {
		t.Fatal(err)
	}
	last := 0
	for range 6 {
		ln, port, err := p.listen("x")
		if err != nil {
			t.Fatal(err)
		}
		ln.Close()
		p.release(port)
		if port == last {
			t.Error("the port just given up was used at once: a late sender would reach a stranger's job")
		}
		last = port
	}
}
