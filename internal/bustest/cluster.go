package bustest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"drydock/bus"
	"drydock/internal/freeport"
)

// StartCluster gives a connection to three servers that keep a bucket of this name in three copies, and nothing else. All ends with
// the test.
func StartCluster(t testing.TB, bucket string) *bus.Conn {
	t.Helper()
	var ports [3]int
	var routes string
	for i := range ports {
		ports[i] = freeport.Pick(t)
		routes += fmt.Sprintf("nats://127.0.0.1:%d,", ports[i])
	}
	var servers []*server.Server
	for i, port := range ports {
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprintf("nats-%d", i), Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true, JetStream: true, SyncAlways: true, StoreDir: t.TempDir(),
			Cluster: server.ClusterOpts{Name: "drydock", Host: "127.0.0.1", Port: port}, Routes: server.RoutesFromStr(routes[:len(routes)-1]),
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		servers = append(servers, s)
	}
	c, err := bus.ConnectRemote(bus.Remote{URL: servers[0].ClientURL()}, t.Name(), Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.NC.Close)
	Until(t, time.Minute, "the servers have a leader, and keep copies", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second) // what is asked before there is a leader is never answered
		defer cancel()
		_, err := c.JS.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: bucket, Replicas: len(ports)})
		return err == nil
	})
	return c
}
