package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The checker reads what is on the bus by its documented names and members (docs/bus.md, docs/subjects.md), with types of
// its own: a mistake in drydock's must not hide itself.

// entry is a message of a stream, with what is read of it.
type entry[T any] struct {
	Seq     uint64
	Subject string
	V       T
}

// tickRecord is an entry of DRYDOCK_TASKS.
type tickRecord struct {
	ID, Outcome, Task, Spec string
	Due, Until, Cursor      time.Time
	Count                   int
	Trigger                 struct{ Kind string }
}

// jobRecord is a transition on DRYDOCK_JOBS.
type jobRecord struct {
	State, Prev, Event, Reason string
	Job                        struct {
		ID, State, Task, Tick, Backup, Reason string
		Attempt                               int
	}
}

// lineRecord is a batch on DRYDOCK_LOGS.
type lineRecord struct {
	Task  string
	Lines []string
}

// manifestRecord is an entry of the catalogue.
type manifestRecord struct {
	ID, Task, Path, Compress, Hash string
	Size, Stored                   int64
	StoredHash                     string          `json:"stored_hash"`
	Removal                        json.RawMessage `json:"removal"`
}

// record is all that the bus holds.
type record struct {
	Ticks    []entry[tickRecord]
	Jobs     []entry[jobRecord]
	Lines    []entry[lineRecord]
	Catalog  []entry[manifestRecord]
	PortsOut int // reserved at the receivers, as they say
}

func dial(s *site) (*nats.Conn, error) {
	urls, login := fmt.Sprintf("nats://127.0.0.1:%d", s.nats), []nats.Option{nats.UserInfo("drydock", natsPassword)}
	if s.split != nil {
		urls, login = s.split.bus()
	}
	return nats.Connect(urls, append(login, nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true), nats.ReconnectWait(100*time.Millisecond), nats.Timeout(5*time.Second), nats.Name("chaos"))...)
}

// readBus reads all of it.
func readBus(ctx context.Context, nc *nats.Conn, receivers []string) (r record, err error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return r, err
	}
	if r.Ticks, err = readStream[tickRecord](ctx, js, "DRYDOCK_TASKS"); err != nil {
		return r, err
	}
	if r.Jobs, err = readStream[jobRecord](ctx, js, "DRYDOCK_JOBS"); err != nil {
		return r, err
	}
	if r.Lines, err = readStream[lineRecord](ctx, js, "DRYDOCK_LOGS"); err != nil {
		return r, err
	}
	if r.Catalog, err = readStream[manifestRecord](ctx, js, "KV_drydock_catalog"); err != nil {
		return r, err
	}
	for _, name := range receivers {
		n, err := portsInUse(ctx, nc, name)
		if err != nil {
			return r, err
		}
		r.PortsOut += n
	}
	return r, nil
}

func portsInUse(ctx context.Context, nc *nats.Conn, receiver string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	msg, err := nc.RequestWithContext(ctx, "drydock.receiver."+receiver+".ports", []byte("{}"))
	if err != nil {
		return 0, fmt.Errorf("ask %s for its ports: %w", receiver, err)
	}
	var ports struct {
		InUse *int `json:"in_use"`
	}
	if err := json.Unmarshal(msg.Data, &ports); err != nil || ports.InUse == nil {
		return 0, fmt.Errorf("read the answer %q of %s: %w", msg.Data, receiver, err)
	}
	return *ports.InUse, nil
}

// readStream reads a stream from its first message to the one that is the last now. Of a bucket the deleted keys are left out.
func readStream[T any](ctx context.Context, js jetstream.JetStream, name string) (out []entry[T], err error) {
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	state := stream.CachedInfo().State
	if state.Msgs == 0 {
		return nil, nil
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	msgs, err := consumer.Messages()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer msgs.Stop()
	for seq := uint64(0); seq < state.LastSeq; {
		msg, err := msgs.Next(jetstream.NextMaxWait(20 * time.Second))
		if err != nil {
			return nil, fmt.Errorf("read %s after %d: %w", name, seq, err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return nil, err
		}
		seq = meta.Sequence.Stream
		e := entry[T]{Seq: seq, Subject: msg.Subject()}
		if msg.Headers().Get("KV-Operation") != "" {
			continue
		}
		if err := json.Unmarshal(msg.Data(), &e.V); err != nil {
			return nil, fmt.Errorf("read message %d of %s: %w", seq, name, err)
		}
		out = append(out, e)
	}
	return out, nil
}

// token is the last part of a subject.
func token(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }
