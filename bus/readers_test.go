package bus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/crypto/bcrypt"

	"drydock/bus"
	"drydock/internal/bustest"
)

// reading is a bus with something on it, and a reader's connection to it.
type reading struct {
	t      *testing.T
	srv    *bus.Server
	conn   *bus.Conn // drydock's own
	nc     *nats.Conn
	denied chan error // what the server told the reader that it may not
}

func newReading(t *testing.T) *reading {
	t.Helper()
	r := &reading{t: t, denied: make(chan error, 1000)}
	r.srv, r.conn = bustest.StartServer(t, bus.ServerConfig{Listen: "127.0.0.1:0"})
	if err := r.srv.SetReaders([]bus.Reader{reader(t, "monitor", "look"), reader(t, "other", "look")}); err != nil {
		t.Fatal(err)
	}
	r.nc = r.connect("monitor", "look")
	ctx := bustest.Context(t)
	for _, k := range []struct{ bucket, key string }{
		{bus.BucketKeys, "jwt"}, {bus.BucketUsers, "admin"}, {bus.BucketCatalog, "prod.db1.3306.B1"}, {bus.BucketState, "prod.db1.3306.optimize"},
	} {
		kv, err := r.conn.Bucket(ctx, k.bucket)
		if err == nil {
			_, err = kv.Put(ctx, k.key, []byte(`{"canary":"`+k.bucket+`"}`))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	r.write(bus.TaskSubject("prod", "optimize"))
	return r
}

func reader(t *testing.T, name, password string) bus.Reader {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return bus.Reader{Name: name, Hash: string(hash)}
}

func (r *reading) connect(user, password string) *nats.Conn {
	r.t.Helper()
	nc, err := nats.Connect("nats://"+r.srv.Addr(), nats.UserInfo(user, password), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		select {
		case r.denied <- err:
		default:
		}
	}))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(nc.Close)
	return nc
}

func (r *reading) write(subject string) {
	r.t.Helper()
	if _, err := r.conn.JS.Publish(bustest.Context(r.t), subject, []byte(`{"type":"x"}`)); err != nil {
		r.t.Fatal(err)
	}
}

// everything is a picture of all streams: how many messages, the last one, and the consumers.
func (r *reading) everything() string {
	r.t.Helper()
	ctx := bustest.Context(r.t)
	var out strings.Builder
	list := r.conn.JS.ListStreams(ctx)
	for info := range list.Info() {
		fmt.Fprintln(&out, info.Config.Name, info.Config.MaxBytes, info.Config.Subjects, info.State.Msgs, info.State.FirstSeq, info.State.LastSeq, info.State.Consumers)
	}
	if list.Err() != nil {
		r.t.Fatal(list.Err())
	}
	return out.String()
}

// A monitoring system follows the bus and reads what is kept, with the ordinary client.
func TestAReaderSeesWhatHappensAndWhatIsKept(t *testing.T) {
	t.Parallel()
	r := newReading(t)
	ctx := bustest.Context(t)
	sub, err := r.nc.SubscribeSync(bus.AllTasks)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	r.write(bus.TaskSubject("prod", "analyze"))
	if m, err := sub.NextMsg(20 * time.Second); err != nil || m.Subject != bus.TaskSubject("prod", "analyze") {
		t.Fatalf("live: %v, %v", m, err)
	}
	js, err := jetstream.New(r.nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(ctx, bus.StreamTasks)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := s.GetLastMsgForSubject(ctx, bus.TaskSubject("prod", "optimize")); err != nil || string(m.Data) != `{"type":"x"}` {
		t.Errorf("the last message: %v, %v", m, err)
	}
	if m, err := s.GetMsg(ctx, 2); err != nil || m.Sequence != 2 {
		t.Errorf("a message: %v, %v", m, err)
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(">"))
	if err != nil || info.State.Subjects[bus.TaskSubject("prod", "analyze")] != 1 {
		t.Errorf("what is in it: %v, %v", info, err)
	}
	kv, err := js.KeyValue(ctx, bus.BucketCatalog)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := kv.Get(ctx, "prod.db1.3306.B1"); err != nil || !strings.Contains(string(e.Value()), "canary") {
		t.Errorf("a key: %v, %v", e, err)
	}
	names := 0
	for range js.StreamNames(ctx).Name() {
		names++
	}
	if names == 0 {
		t.Error("no stream has a name")
	}
	if _, err := js.AccountInfo(ctx); err != nil {
		t.Error(err)
	}
	if len(r.denied) > 0 {
		t.Errorf("refused: %v", <-r.denied)
	}
}

// A user that only looks must not change the least thing, nor see a key or a hash, whatever request it finds for it.
func TestAReaderChangesNothingAndSeesNoSecret(t *testing.T) {
	t.Parallel()
	r := newReading(t)
	before := r.everything()
	keys, _ := bus.BucketStream(bus.BucketKeys)
	users, _ := bus.BucketStream(bus.BucketUsers)
	last := `{"last_by_subj":"$KV.` + bus.BucketKeys + `.jwt"}`
	dangers := []struct{ subject, body string }{
		{"drydock.task.prod.optimize", "{}"}, {"drydock.job.prod.db1.3306.optimize", "{}"}, {"drydock.audit._.login", "{}"}, {"drydock.progress.prod.db1.3306.optimize", "{}"},
		{bus.SubjectReceiverOpen, "{}"}, {bus.SubjectNotifyTest, "{}"}, {bus.SubjectNext, "{}"}, {"anything", ""}, {"_INBOX.x", ""},
		{"$KV." + bus.BucketKeys + ".jwt", "x"}, {"$KV." + bus.BucketUsers + ".admin", "x"}, {"$KV." + bus.BucketCatalog + ".prod.db1.3306.B1", "x"}, {"$KV." + bus.BucketControl + "._closures", "x"},
		{"$JS.API.STREAM.CREATE.MINE", `{"name":"MINE","subjects":["mine"]}`}, {"$JS.API.STREAM.UPDATE.DRYDOCK_LOGS", `{"name":"DRYDOCK_LOGS","subjects":["drydock.log.>"],"max_msgs":1}`},
		{"$JS.API.STREAM.DELETE.DRYDOCK_JOBS", ""}, {"$JS.API.STREAM.PURGE.DRYDOCK_TASKS", ""}, {"$JS.API.STREAM.MSG.DELETE.DRYDOCK_LOGS", `{"seq":1}`},
		{"$JS.API.STREAM.MSG.DELETE.KV_drydock_catalog", `{"seq":1}`}, {"$JS.API.STREAM.SNAPSHOT." + keys, `{"deliver_subject":"_INBOX.snap"}`}, {"$JS.API.STREAM.RESTORE.X", "{}"},
		{"$JS.API.STREAM.PEER.REMOVE.DRYDOCK_JOBS", "{}"}, {"$JS.API.STREAM.LEADER.STEPDOWN.DRYDOCK_JOBS", ""}, {"$JS.API.META.LEADER.STEPDOWN", ""}, {"$JS.API.ACCOUNT.PURGE.$G", ""}, {"$JS.API.SERVER.REMOVE", "{}"},
		{"$JS.API.STREAM.INFO." + keys, ""}, {"$JS.API.STREAM.INFO." + users, ""}, {"$JS.API.STREAM.MSG.GET." + keys, last}, {"$JS.API.STREAM.MSG.GET." + users, `{"seq":1}`},
		{"$JS.API.DIRECT.GET." + keys, last}, {"$JS.API.DIRECT.GET." + keys + ".$KV." + bus.BucketKeys + ".jwt", ""}, {"$JS.API.DIRECT.GET." + users + ".$KV." + bus.BucketUsers + ".admin", ""},
		{"$JS.API.CONSUMER.CREATE." + keys, `{"stream_name":"` + keys + `","config":{"deliver_subject":"_INBOX.k","ack_policy":"none"}}`},
		{"$JS.API.CONSUMER.CREATE." + keys + ".c1", `{"stream_name":"` + keys + `","config":{"name":"c1","ack_policy":"none"}}`},
		{"$JS.API.CONSUMER.CREATE.DRYDOCK_TASKS." + bus.DurableFanout, `{"stream_name":"DRYDOCK_TASKS","config":{"name":"` + bus.DurableFanout + `","ack_policy":"explicit"}}`},
		{"$JS.API.CONSUMER.CREATE.DRYDOCK_LOGS.c2", `{"stream_name":"DRYDOCK_LOGS","config":{"name":"c2","deliver_subject":"drydock.task.prod.x","ack_policy":"none"}}`},
		{"$JS.API.CONSUMER.DURABLE.CREATE.DRYDOCK_JOBS.d", `{"stream_name":"DRYDOCK_JOBS","config":{"durable_name":"d","ack_policy":"none"}}`},
		{"$JS.API.CONSUMER.DELETE.DRYDOCK_TASKS." + bus.DurableFanout, ""}, {"$JS.API.CONSUMER.PAUSE.DRYDOCK_TASKS." + bus.DurableFanout, `{"pause_until":"2099-01-01T00:00:00Z"}`},
		{"$JS.API.CONSUMER.MSG.NEXT.DRYDOCK_TASKS." + bus.DurableFanout, "1"}, {"$JS.ACK.DRYDOCK_TASKS." + bus.DurableFanout + ".1.1.1.1.1", ""},
		{"$SYS.REQ.SERVER.PING", ""}, {"$SYS.REQ.USER.INFO", ""}, {"$SYS.REQ.ACCOUNT.$G.CONNZ", ""}, {"$SYS.REQ.SERVER.X.RELOAD", ""}, {"$SRV.PING", ""},
	}
	for _, d := range dangers {
		if m, err := r.nc.Request(d.subject, []byte(d.body), 30*time.Millisecond); err == nil {
			t.Errorf("%s is answered: %s", d.subject, m.Data)
		}
		r.refused(d.subject)
	}
	for _, subject := range []string{">", "$KV.>", "$KV." + bus.BucketKeys + ".>", "$JS.>", "$SYS.>", "drydock.receiver.>", "drydock.>", "_R_.>", "$JS.EVENT.>"} {
		if _, err := r.nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		r.refused(subject)
	}
	if after := r.everything(); after != before {
		t.Errorf("something changed\n%s\n%s", before, after)
	}
}

// refused waits until the server says that a subject is not the reader's.
func (r *reading) refused(subject string) {
	r.t.Helper()
	select {
	case err := <-r.denied:
		if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(fmt.Sprintf("%q", subject))) {
			r.t.Errorf("%s: %v", subject, err)
		}
	case <-time.After(20 * time.Second):
		r.t.Errorf("%s is not refused", subject)
	}
}

// An answer goes to whatever subject was asked for. It must not become an order there, nor news for another reader.
func TestAnAnswerToAReaderReachesNobodyElse(t *testing.T) {
	t.Parallel()
	r := newReading(t)
	before := r.everything()
	forged, err := r.connect("other", "look").SubscribeSync(bus.AllTasks)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := r.conn.NC.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.conn.NC.Flush(), forged.SetPendingLimits(-1, -1)); err != nil {
		t.Fatal(err)
	}
	targets := []string{
		"drydock.task.prod.optimize", "$KV." + bus.BucketKeys + ".jwt", "$KV." + bus.BucketUsers + ".eve", "$JS.API.STREAM.PURGE.DRYDOCK_TASKS", "$JS.API.STREAM.DELETE.DRYDOCK_LOGS",
	}
	for _, target := range targets {
		for _, ask := range []struct{ subject, body string }{
			{"$JS.API.INFO", ""}, {"$JS.API.STREAM.INFO.DRYDOCK_TASKS", ""}, {"$JS.API.STREAM.MSG.GET.DRYDOCK_TASKS", `{"seq":1}`},
			{"$JS.API.DIRECT.GET.KV_drydock_catalog", `{"seq":1}`}, {"$JS.API.DIRECT.GET.DRYDOCK_TASKS", `{"multi_last":["drydock.>"]}`},
		} {
			if err := r.nc.PublishRequest(ask.subject, target, []byte(ask.body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	// The answer to this comes after those; then a message of ours, after which nothing else can come.
	js, err := jetstream.New(r.nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.AccountInfo(bustest.Context(t)); err != nil {
		t.Fatal(err)
	}
	if after := r.everything(); after != before {
		t.Errorf("something changed\n%s\n%s", before, after)
	}
	r.write(bus.TaskSubject("prod", "last"))
	if m, err := forged.NextMsg(20 * time.Second); err != nil || m.Subject != bus.TaskSubject("prod", "last") {
		t.Errorf("another reader got %v, %v", m, err)
	}
	for {
		m, err := sub.NextMsg(20 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if m.Subject == bus.TaskSubject("prod", "last") {
			break
		}
		for _, target := range targets {
			if m.Subject == target {
				t.Errorf("it arrived at %s: %s", m.Subject, m.Data)
			}
		}
	}
}

// Somebody who is not a reader any more must be out at once, and nobody gets in who is none.
func TestAReaderThatIsRemovedIsOut(t *testing.T) {
	t.Parallel()
	r := newReading(t)
	closed := make(chan struct{})
	nc, err := nats.Connect("nats://"+r.srv.Addr(), nats.UserInfo("monitor", "look"), nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for _, c := range [][2]string{{"monitor", "wrong"}, {"nobody", "look"}, {"", ""}, {"drydock", "look"}, {"drydock", ""}, {"Monitor", "look"}} {
		if other, err := nats.Connect("nats://"+r.srv.Addr(), nats.UserInfo(c[0], c[1])); err == nil {
			other.Close()
			t.Errorf("%q got in", c)
		}
	}
	if err := r.srv.SetReaders([]bus.Reader{reader(t, "other", "look"), reader(t, "drydock", "look")}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Fatal("it is still connected")
	}
	for _, c := range [][2]string{{"monitor", "look"}, {"drydock", "look"}} {
		if other, err := nats.Connect("nats://"+r.srv.Addr(), nats.UserInfo(c[0], c[1])); err == nil {
			other.Close()
			t.Errorf("%q got in", c)
		}
	}
	own, err := bus.ConnectRemote(bus.Remote{URL: "nats://" + r.srv.Addr(), User: "drydock", Password: "test"}, "own", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer own.NC.Close()
	if err := own.Ready(context.Background()); err != nil {
		t.Error(err)
	}
}

// What is printed for a nats-server of its own must mean the same there.
func TestTheConfigurationForAnotherServerLetsReadAndNoMore(t *testing.T) {
	t.Parallel()
	text := "listen: 127.0.0.1:-1\njetstream { store_dir: \"" + t.TempDir() + "\", max_file: 64GB }\n" + bus.ReaderConfig(reader(t, "monitor", "look"))
	text = strings.Replace(text, "# jetstream and users as they are", "jetstream: enabled\nusers = [{user: drydock, password: test}]", 1)
	srv, _ := startOther(t, text)
	ctx := bustest.Context(t)
	own := connectTo(t, srv.ClientURL())
	if err := own.Declare(ctx, bus.DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	if _, err := own.JS.Publish(ctx, bus.TaskSubject("prod", "optimize"), []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(srv.ClientURL(), nats.UserInfo("monitor", "look"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(ctx, bus.StreamTasks)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.GetMsg(ctx, 1); err != nil {
		t.Error(err)
	}
	brief, cancel := context.WithTimeout(ctx, 100*time.Millisecond) // what is refused has no answer
	defer cancel()
	if err := s.Purge(brief); err == nil {
		t.Error("it purges")
	}
	if _, err := js.KeyValue(brief, bus.BucketKeys); err == nil {
		t.Error("it sees the keys")
	}
	if info, err := s.Info(ctx); err != nil || info.State.Msgs != 1 {
		t.Errorf("afterwards: %+v, %v", info, err)
	}
}
