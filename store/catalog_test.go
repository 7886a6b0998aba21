package store

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
)

// Retention deletes what no listed backup needs: half a catalogue, read when the bus closed, must not pass for all of it.
func TestHalfACatalogueIsNone(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t)
	ctx := bustest.Context(t)
	const there = 1000 // more than lies between the bus and who reads
	var last jetstream.PubAckFuture
	for i := range there {
		m := Manifest{ID: fmt.Sprintf("B%04d", i), Cluster: "prod", Server: job.Server{Host: "10.0.1.5", Port: 3306}}
		text, err := json.Marshal(m)
		if err == nil {
			last, err = conn.JS.PublishAsync("$KV."+bus.BucketCatalog+"."+bus.CatalogKey(m.Cluster, m.Server.Host, m.Server.Port, m.ID), text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-conn.JS.PublishAsyncComplete():
	case err := <-last.Err():
		t.Fatal(err)
	case <-ctx.Done():
		t.Fatal(ctx.Err())
	}
	cat := NewCatalog(conn)
	if list, err := cat.List(ctx, "", job.Server{}); err != nil || len(list) != there {
		t.Fatalf("%d backups, %v", len(list), err)
	}
	list, err := cat.list(ctx, "", job.Server{}, func(Manifest) bool {
		conn.NC.Close()
		return true
	})
	if err == nil || list != nil || ctx.Err() != nil {
		t.Errorf("of a bus that closed: %d backups, %v", len(list), err)
	}
}
