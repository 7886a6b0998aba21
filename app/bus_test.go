package app

import (
	"strings"
	"testing"

	"drydock/bus"
	"drydock/config"
	"drydock/internal/bustest"
)

// NATS reserves the space of all streams and buckets at once: a configuration that passes the check must not end in a drydock that
// cannot declare its last bucket, and one that would must not be refused.
func TestTheSpaceThatTheCheckAsksForIsWhatTheBusTakes(t *testing.T) {
	t.Parallel()
	if got := (bus.Limits{}).Reserved(); got != config.BucketsReserve {
		t.Errorf("the buckets take %d bytes, the check asks for %d", got, int64(config.BucketsReserve))
	}
	cfg, err := config.Parse("x.toml", nil)
	if err != nil {
		t.Fatal(err)
	}
	l := limits(cfg)
	if want := cfg.Global.NATS.MaxStore; l.Reserved() > want {
		t.Errorf("by default %d bytes are reserved of %d", l.Reserved(), want)
	}
	for _, more := range []int64{0, -1} {
		srv, err := bus.StartServer(bus.ServerConfig{Dir: t.TempDir(), User: "u", Password: "p", MaxStore: l.Reserved() + more, Log: bustest.Log(t)})
		if err != nil {
			t.Fatal(err)
		}
		defer srv.Close()
		conn, err := bus.ConnectInProcess(srv, "t", bustest.Log(t))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		err = conn.Declare(bustest.Context(t), l)
		if fits := more == 0; fits != (err == nil) || !fits && !strings.Contains(err.Error(), "reserve 12080 MiB in all") {
			t.Errorf("with %d bytes more than is reserved: %v", more, err)
		}
	}
}
