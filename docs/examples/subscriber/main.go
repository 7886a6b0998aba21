// Command subscriber prints every condition of drydock that opens or closes. See
// docs/subscribe.md.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func main() {
	nc, err := nats.Connect(os.Getenv("NATS_URL"), nats.UserInfo("drydock", os.Getenv("NATS_PASSWORD")), nats.MaxReconnects(-1))
	check(err)
	js, err := jetstream.New(nc)
	check(err)
	// A durable consumer: what happens while this program is down comes when it is back.
	alerts, err := js.CreateOrUpdateConsumer(context.Background(), "DRYDOCK_ALERTS", jetstream.ConsumerConfig{Durable: "my-pager"})
	check(err)
	_, err = alerts.Consume(func(m jetstream.Msg) {
		fmt.Printf("%s %s\n", m.Subject(), m.Data()) // your own work
		check(m.Ack())                               // not acknowledged: it comes again
	})
	check(err)
	select {} // for ever; the library reconnects by itself
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
