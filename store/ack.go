package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"drydock/bus"
)

// Ack is the word of a person that they know of a condition. It closes nothing, and it ends with the condition: one that
// opens again has another id.
type Ack struct {
	Cluster string    `json:"cluster"`
	Code    string    `json:"code"`
	By      string    `json:"by"`
	Note    string    `json:"note,omitempty"`
	Time    time.Time `json:"time"`
}

// Acks keeps the acknowledgements, by the id of the edge that opened the condition. Safe for concurrent use.
type Acks struct{ c *bus.Conn }

// NewAcks uses the bucket drydock_control.
func NewAcks(c *bus.Conn) *Acks { return &Acks{c} }

const (
	keyAcks = "_acks"
	// maxAcks bounds the document. Those of conditions that have closed are dropped when one is added.
	maxAcks = 2000
	// maxAckNote bounds what a person writes, bytes.
	maxAckNote = 500
)

// ErrAck is in the chain of an error that says why something cannot be acknowledged.
var ErrAck = errors.New("cannot be acknowledged")

type ackDoc struct {
	Acks map[string]Ack `json:"acks"`
}

// All are the acknowledgements by the id of the opening edge.
func (a *Acks) All(ctx context.Context) (map[string]Ack, error) {
	kv, err := a.c.Bucket(ctx, bus.BucketControl)
	if err != nil {
		return nil, err
	}
	doc, _, err := readControl[ackDoc](ctx, kv, keyAcks)
	return doc.Acks, err
}

// Set acknowledges a condition of a cluster that is open, by the id of its opening edge. Errors: [ErrAck].
func (a *Acks) Set(ctx context.Context, cluster, id, by, note string) (Ack, error) {
	if len(note) > maxAckNote {
		return Ack{}, fmt.Errorf("%w: the note has %d bytes, %d are allowed", ErrAck, len(note), maxAckNote)
	}
	open, err := a.open(ctx)
	if err != nil {
		return Ack{}, err
	}
	edge, ok := open[id]
	if !ok || edge.Cluster != cluster {
		return Ack{}, fmt.Errorf("%w: no condition of cluster %s with this id is open", ErrAck, cluster)
	}
	ack := Ack{Cluster: cluster, Code: edge.Code, By: by, Note: note, Time: time.Now().UTC().Truncate(time.Second)}
	err = updateControl(ctx, a.c, keyAcks, func(doc *ackDoc) (bool, error) {
		for old := range doc.Acks {
			if _, still := open[old]; !still {
				delete(doc.Acks, old)
			}
		}
		if doc.Acks == nil {
			doc.Acks = map[string]Ack{}
		}
		doc.Acks[id] = ack
		if len(doc.Acks) > maxAcks {
			return false, fmt.Errorf("%w: %d conditions are acknowledged already", ErrAck, maxAcks)
		}
		return true, nil
	})
	return ack, err
}

// Lift takes an acknowledgement of a cluster's condition back. Errors: [ErrAck] when there is none.
func (a *Acks) Lift(ctx context.Context, cluster, id string) (lifted Ack, err error) {
	found := false
	err = updateControl(ctx, a.c, keyAcks, func(doc *ackDoc) (bool, error) {
		ack, ok := doc.Acks[id]
		if !ok || ack.Cluster != cluster {
			if found {
				return false, nil // an earlier try did it after all
			}
			return false, fmt.Errorf("%w: it is not acknowledged", ErrAck)
		}
		lifted, found = ack, true
		delete(doc.Acks, id)
		return true, nil
	})
	return lifted, err
}

// open are the edges that opened what is open, by id.
func (a *Acks) open(ctx context.Context) (map[string]bus.Alert, error) {
	list, err := NewAlerts(a.c, "").List(ctx, AlertFilter{Limit: 1 << 30})
	if err != nil {
		return nil, err
	}
	out := make(map[string]bus.Alert, len(list))
	for _, e := range list {
		out[e.ID] = e
	}
	return out, nil
}
