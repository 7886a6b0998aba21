package app

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"drydock/bus"
	"drydock/internal/bustest"
)

// A command waits for an election. Whoever interrupts it, or has less time than that, as a health check and a completion do, must not
// have to wait with it.
func TestWaitingForABusThatDoesNotAnswerEndsWithTheContext(t *testing.T) {
	t.Parallel()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(30 * time.Second) {
		t.Fatal("it does not start")
	}
	c, err := bus.ConnectRemote(bus.Remote{URL: srv.ClientURL()}, t.Name(), bustest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.NC.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	asked := func(*nats.Msg) { cancel() } // and says nothing, as servers without a leader do
	if _, err := c.NC.Subscribe("$JS.API.>", asked); err != nil {
		t.Fatal(err)
	}
	if err := c.NC.Flush(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := awaitReady(ctx, c); err == nil || time.Since(begun) > 4*time.Second {
		t.Errorf("%v after %s", err, time.Since(begun))
	}
}
