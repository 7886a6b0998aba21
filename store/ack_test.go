package store_test

import (
	"errors"
	"testing"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/store"
)

// TestAnAcknowledgementEndsWithItsCondition: what opens again is news, and the document does not grow for ever.
func TestAnAcknowledgementEndsWithItsCondition(t *testing.T) {
	t.Parallel()
	c, ctx := bustest.Start(t), bustest.Context(t)
	alerts, acks := store.NewAlerts(c, "test"), store.NewAcks(c)
	subject := bus.AlertSubject("prod", "", 0, "DOCK0201")
	first, seq, err := alerts.Append(ctx, subject, 0, bus.Alert{State: bus.AlertOpened, Code: "DOCK0201", Cluster: "prod"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := acks.Set(ctx, "other", first.ID, "eve", ""); !errors.Is(err, store.ErrAck) {
		t.Errorf("of another cluster: %v", err)
	}
	ack, err := acks.Set(ctx, "prod", first.ID, "admin", "tape is late")
	if err != nil {
		t.Fatal(err)
	}
	if all, err := acks.All(ctx); err != nil || all[first.ID] != ack || ack.By != "admin" || ack.Code != "DOCK0201" {
		t.Errorf("%+v, %v", all, err)
	}
	if _, err := acks.Lift(ctx, "other", first.ID); !errors.Is(err, store.ErrAck) {
		t.Errorf("lifted for another cluster: %v", err)
	}
	if _, seq, err = alerts.Append(ctx, subject, seq, bus.Alert{State: bus.AlertClosed, Code: "DOCK0201", Cluster: "prod"}); err != nil {
		t.Fatal(err)
	}
	if _, err := acks.Set(ctx, "prod", first.ID, "admin", ""); !errors.Is(err, store.ErrAck) {
		t.Errorf("of a closed one: %v", err)
	}
	second, _, err := alerts.Append(ctx, subject, seq, bus.Alert{State: bus.AlertOpened, Code: "DOCK0201", Cluster: "prod"})
	if err != nil {
		t.Fatal(err)
	}
	if all, err := acks.All(ctx); err != nil || all[second.ID].By != "" {
		t.Errorf("the new one is acknowledged already: %+v, %v", all, err)
	}
	if _, err := acks.Set(ctx, "prod", second.ID, "admin", ""); err != nil {
		t.Fatal(err)
	}
	if all, err := acks.All(ctx); err != nil || len(all) != 1 {
		t.Errorf("kept: %+v, %v", all, err)
	}
	if _, err := acks.Lift(ctx, "prod", second.ID); err != nil {
		t.Error(err)
	}
	if _, err := acks.Lift(ctx, "prod", second.ID); !errors.Is(err, store.ErrAck) {
		t.Errorf("lifted twice: %v", err)
	}
}
