package gateway_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"drydock/bus"
	"drydock/gateway"
	"drydock/internal/bustest"
	"drydock/internal/freeport"
	"drydock/job"
	"drydock/scripts"
	"drydock/store"
)

func (r *rig) scriptDoc(s job.Server) (doc store.ScriptDoc) {
	r.t.Helper()
	if _, err := r.deps.Docs.Get(r.ctx(), "sql", s, store.DocScript, &doc); err != nil {
		r.t.Fatal(err)
	}
	return doc
}

func TestAnotherScriptIsAskedToUpgradeAndTheSameIsLeftAlone(t *testing.T) {
	t.Parallel()
	script := []byte("#!/bin/bash\n# EOF\n")
	r := newRig(t, func(c *gateway.Config) { c.Script = script })
	check := path("sql", db1, "/actions/receive-jobs-check")
	for _, c := range []struct {
		sum     string
		upgrade bool
	}{{strings.Repeat("0", 64), true}, {scripts.Checksum(script), false}} {
		before := r.rx.count()
		for range 2 { // a repeated call gets the same reservation
			r.want(r.call("POST", check, "", seal(db1)), 200, "RECEIVER_PORT=4001\nRECEIVER_ADDRESS=10.9.8.7")
		}
		r.rx.mu.Lock()
		opened := r.rx.opened[before:]
		r.rx.mu.Unlock()
		if len(opened) != 2 || !reflect.DeepEqual(opened[0], opened[1]) || !opened[0].Check || opened[0].Key.Server != db1 {
			t.Errorf("reservations %+v", opened)
		}
		r.rx.checks <- bus.CheckReply{SHA256: c.sum, Bytes: 100}
		bustest.Until(t, 5*time.Second, "the checksum is recorded", func() bool { return r.scriptDoc(db1).SHA256 == c.sum })
		if doc := r.scriptDoc(db1); doc.Upgrade != c.upgrade {
			t.Errorf("%+v", doc)
		}
		pending := r.call("GET", path("sql", db1, "/jobs-pending"), "", seal(db1))
		want := "heartbeat 10\n"
		if c.upgrade {
			want += "jobs-upgrade " + scripts.Checksum(script) + "\n"
			r.want(r.call("GET", path("sql", db1, "/needs/jobs-upgrade"), "", seal(db1)), 200, "true")
		} else {
			r.want(r.call("GET", path("sql", db1, "/needs/jobs-upgrade"), "", seal(db1)), 500, "false")
		}
		if !strings.HasSuffix(pending.body, want) {
			t.Errorf("pending: %s, want the end %q", pending, want)
		}
		r.want(r.call("GET", path("sql", db1, "/needs/jobs-check"), "", seal(db1)), 500, "false")
		// For another server nothing is known yet.
		r.want(r.call("GET", path("sql", db2, "/needs/jobs-check"), "", seal(db2)), 200, "true")
	}
}

func TestScriptIsLookedAtAgainAfterADay(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	doc := store.ScriptDoc{SHA256: "x", Checked: time.Now().Add(-25 * time.Hour)}
	if err := r.deps.Docs.Put(r.ctx(), "sql", db1, store.DocScript, doc); err != nil {
		t.Fatal(err)
	}
	r.want(r.call("GET", path("sql", db1, "/needs/jobs-check"), "", seal(db1)), 200, "true")
}

func TestExhaustedPoolIsNoScriptCheck(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.rx.refuse(bus.CodeExhausted, "no port is free")
	r.want(r.call("POST", path("sql", db1, "/actions/receive-jobs-check"), "", seal(db1)), 503, "")
	r.rx.refuse("", "")
	r.want(r.call("POST", path("sql", db1, "/actions/receive-jobs-check"), "", seal(db1)), 200, "RECEIVER_PORT=4001\nRECEIVER_ADDRESS=10.9.8.7")
	close(r.rx.checks)
}

func TestScriptIsSentToAListenerThatComesUpLate(t *testing.T) {
	t.Parallel()
	port := freeport.Pick(t)
	r := newRig(t, func(c *gateway.Config) { c.Clusters[0].ReceiverPorts = []int{port, 1} })
	if err := r.deps.Docs.Put(r.ctx(), "sql", db1, store.DocScript, store.ScriptDoc{SHA256: "other", Upgrade: true}); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	for range 2 { // the second call finds the first one's delivery under way
		r.want(r.call("POST", path("sql", db1, "/actions/send-jobs-upgrade"), "", seal(db1)), 200, "true")
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("answered after %s", took)
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, scripts.Script()) || !bytes.HasSuffix(got, []byte("\n# EOF\n")) {
		t.Errorf("%d bytes came, %v", len(got), err)
	}
	bustest.Until(t, 5*time.Second, "the upgrade is not asked for again", func() bool { return !r.scriptDoc(db1).Upgrade })
}

// Scripts ask in every cycle whether an upgrade waits: a host that cannot be reached must not be tried each time.
func TestUpgradeThatFailedIsNotAskedForBeforeTheNextCheck(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := newRig(t, func(c *gateway.Config) {
		c.Script = make([]byte, 64<<20) // more than fits between two sockets: the closed connection is noticed
		c.Clusters[0].ReceiverPorts = []int{l.Addr().(*net.TCPAddr).Port}
	})
	checked := time.Now().Add(-time.Hour).UTC()
	if err := r.deps.Docs.Put(r.ctx(), "sql", db1, store.DocScript, store.ScriptDoc{SHA256: "other", Checked: checked, Upgrade: true}); err != nil {
		t.Fatal(err)
	}
	r.want(r.call("POST", path("sql", db1, "/actions/send-jobs-upgrade"), "", seal(db1)), 200, "true")
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	bustest.Until(t, 10*time.Second, "the upgrade is not asked for again", func() bool { return !r.scriptDoc(db1).Upgrade })
	// Nothing was learned of the script: the check is due when it was, and asks for the upgrade again.
	if doc := r.scriptDoc(db1); doc.SHA256 != "other" || !doc.Checked.Equal(checked) {
		t.Errorf("%+v", doc)
	}
}

func TestStopDoesNotWaitForAHostThatNeverListens(t *testing.T) {
	t.Parallel()
	port := freeport.Pick(t)
	r := newRig(t, func(c *gateway.Config) { c.Clusters[0].ReceiverPorts = []int{port} })
	r.want(r.call("POST", path("sql", db1, "/actions/send-jobs-upgrade"), "", seal(db1)), 200, "true")
	r.want(r.call("POST", path("sql", db1, "/actions/receive-jobs-check"), "", seal(db1)), 200, "")
	begun := time.Now()
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("stopped after %s", took)
	}
	close(r.rx.checks)
}
