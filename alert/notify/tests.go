package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go/micro"

	"drydock/bus"
)

const serviceVersion = "1.0.0" // of the question and its answer, not of the program

// serveTests sends test messages that operators ask for, until ctx ends. Only who leads answers.
func (n *Notifier) serveTests(ctx context.Context, workers []*worker) {
	svc, err := micro.AddService(n.conn.NC, micro.Config{
		Name: bus.NotifierService, Version: serviceVersion, Description: "drydock's notifications",
		Metadata: map[string]string{"actor": n.cfg.Actor},
	})
	if err != nil {
		n.log.Warn("announce the service of the notifications", "err", err)
		return
	}
	defer func() {
		if err := svc.Stop(); err != nil {
			n.log.Debug("withdraw the service", "err", err)
		}
	}()
	requests := make(chan micro.Request, 16) // the handler sends and never waits; nobody closes it
	err = svc.AddEndpoint("test", micro.HandlerFunc(func(r micro.Request) {
		select {
		case requests <- r:
		default:
			n.refuse(r, "too many requests")
		}
	}), micro.WithEndpointSubject(bus.SubjectNotifyTest), micro.WithEndpointQueueGroup(bus.NotifierService))
	if err != nil {
		n.log.Warn("announce "+bus.SubjectNotifyTest, "err", err)
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-requests:
			wg.Go(func() { n.answerTest(ctx, r, workers) })
		}
	}
}

func (n *Notifier) answerTest(ctx context.Context, r micro.Request, workers []*worker) {
	var in bus.NotifyTestRequest
	if err := json.Unmarshal(r.Data(), &in); err != nil {
		n.refuse(r, "the request is not the JSON that is wanted")
		return
	}
	for _, w := range workers {
		if w.to.Name != in.Destination {
			continue
		}
		x, err := w.test(ctx, in.By)
		if err != nil {
			n.refuse(r, err.Error())
		} else if err := r.RespondJSON(x); err != nil {
			n.log.Debug("answer a test", "err", err)
		}
		return
	}
	n.refuse(r, fmt.Sprintf("no destination %q; see alert-destinations", in.Destination))
}

func (n *Notifier) refuse(r micro.Request, message string) {
	if err := bus.RespondError(r, bus.CodeRefused, message); err != nil {
		n.log.Debug("answer a test", "err", err)
	}
}
