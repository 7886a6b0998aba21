package store

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
)

var samples = flag.Bool("samples", false, "write testdata/v1 anew: only for state that no released version wrote")

// state is everything that drydock stores as JSON, by the name of its sample: the messages of the streams, the documents of
// the buckets, what lies beside backups.
func state() map[string]any {
	return map[string]any{
		"stream-jobs": &bus.JobEvent{Type: bus.TypeJob}, "stream-tasks": &bus.Tick{Type: bus.TypeTick}, "stream-logs": &bus.LogBatch{Type: bus.TypeLog},
		"stream-alerts": &bus.Alert{Type: bus.TypeAlert}, "stream-audit": &bus.Audit{Type: bus.TypeAudit},
		"stream-notifications": &bus.Notification{Type: bus.TypeNotification},
		"bucket-catalog":       &Manifest{Type: ManifestType}, "bucket-binlogs": &Segment{Type: SegmentType}, "notes": &Notes{Type: NotesType},
		"bucket-state": &TaskState{}, "bucket-state-lease": &leaseDoc{}, "bucket-state-script": &ScriptDoc{}, "bucket-state-dispatch": &DispatchDoc{},
		"bucket-state-facts": &Facts{}, "bucket-state-tables": &Tables{}, "bucket-state-binlogs": &BinlogStatus{}, "bucket-state-inventory": &listing{},
		"bucket-state-checksum": &Checksum{}, "bucket-users": &User{}, "bucket-control-closures": &Closures{}, "bucket-control-places": &Places{}, "bucket-control-switches": &Switches{},
		"bucket-control-acks": &Acks{}, "bucket-keys-readers": &readerDoc{},
	}
}

// fillIn sets every field to something that is not its zero value, so that a sample has all that a document may have.
func fillIn(v reflect.Value, depth int) {
	if depth > 9 {
		return
	}
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Date(2026, 11, 26, 5, 4, 3, 0, time.UTC)))
		return
	case v.Type() == reflect.TypeFor[json.RawMessage]():
		v.SetBytes([]byte(`{"a":1}`))
		return
	case v.Type() == reflect.TypeFor[job.Server]():
		v.Set(reflect.ValueOf(job.Server{Host: "db1.example.com", Port: 3306}))
		return
	}
	switch v.Kind() {
	case reflect.String:
		if v.String() == "" {
			v.SetString("text \"é\"")
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(42)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(42)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(1.5)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillIn(v.Elem(), depth+1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fillIn(v.Index(0), depth+1)
	case reflect.Map:
		key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fillIn(key, depth+1)
		fillIn(elem, depth+1)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, elem)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fillIn(v.Field(i), depth+1)
			}
		}
	}
}

// sampleSigner is the key of the samples. It is no secret.
func sampleSigner() Signer {
	return Signer{ed25519.NewKeyFromSeed([]byte("drydock samples of stored state."))}
}

// written is a document as drydock writes it.
func written(t *testing.T, name string, v any) []byte {
	t.Helper()
	var data []byte
	var err error
	switch v := v.(type) {
	case *Manifest:
		v.Signature = nil
		signed, serr := sampleSigner().Sign(*v)
		data, err = json.Marshal(signed)
		err = errors.Join(err, serr)
	case *Segment:
		signed, serr := sampleSigner().SignSegment(*v)
		data, err = json.Marshal(signed)
		err = errors.Join(err, serr)
	case *Notes:
		signed, serr := sampleSigner().SignNotes(*v)
		data, err = json.Marshal(signed)
		err = errors.Join(err, serr)
	default:
		if strings.HasPrefix(name, "stream-") {
			data, err = json.Marshal(v)
		} else {
			data, err = bus.Encode(docType, v)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func sampleFile(version, name string) string {
	return filepath.Join("testdata", version, name+".json")
}

// A field that is renamed, dropped or given another type makes the state of a year unreadable, and nobody sees that in a
// test that writes with the same code. These samples were written by the versions in their folders' names.
func TestStateOfEarlierVersionsIsReadWhole(t *testing.T) {
	t.Parallel()
	if *samples {
		for name, v := range state() {
			fillIn(reflect.ValueOf(v).Elem(), 0)
			var out bytes.Buffer
			if err := json.Indent(&out, written(t, name, v), "", " "); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll("testdata/v1", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(sampleFile("v1", name), append(out.Bytes(), '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, v := range state() {
		data, err := os.ReadFile(sampleFile("v1", name))
		if err != nil {
			t.Errorf("%s has no sample: %v", name, err)
			continue
		}
		fresh := reflect.New(reflect.TypeOf(v).Elem()).Interface()
		if err := bus.Decode(data, fresh); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		again, err := json.Marshal(fresh)
		if err != nil {
			t.Fatal(err)
		}
		var was, is any
		if err := errors.Join(json.Unmarshal(data, &was), json.Unmarshal(again, &is)); err != nil {
			t.Fatal(err)
		}
		for _, lost := range lacking(was, is, "") {
			if lost != ".type" || reflect.ValueOf(fresh).Elem().FieldByName("Type").IsValid() {
				t.Errorf("%s: what an earlier version wrote at %s is not read", name, lost)
			}
		}
		full := reflect.New(reflect.TypeOf(v).Elem())
		full.Elem().Set(reflect.ValueOf(v).Elem()) // with its type
		fillIn(full.Elem(), 0)
		var has any
		if err := json.Unmarshal(written(t, name, full.Interface()), &has); err != nil {
			t.Fatal(err)
		}
		for _, place := range lacking(has, was, "") {
			if !strings.HasPrefix(place, ".signature") { // it is of other fields then
				t.Errorf("%s: no sample guards %s: go test ./store -run TestStateOfEarlier -samples", name, place)
			}
		}
	}
	all, _ := filepath.Glob("testdata/v1/*.json")
	if len(all) != len(state()) {
		t.Errorf("%d samples for %d kinds of state: %q", len(all), len(state()), all)
	}
}

// lacking are the places of was that is does not have, or has otherwise.
func lacking(was, is any, at string) (out []string) {
	switch w := was.(type) {
	case map[string]any:
		i, ok := is.(map[string]any)
		if !ok {
			return []string{at}
		}
		for k, v := range w {
			out = append(out, lacking(v, i[k], at+"."+k)...)
		}
	case []any:
		i, ok := is.([]any)
		if !ok || len(i) != len(w) {
			return []string{at}
		}
		for k, v := range w {
			out = append(out, lacking(v, i[k], fmt.Sprintf("%s[%d]", at, k))...)
		}
	default:
		if !reflect.DeepEqual(was, is) {
			return []string{at}
		}
	}
	return out
}

// A signature must hold for as long as the backup lives, whatever fields came since.
func TestSignaturesOfEarlierVersionsHold(t *testing.T) {
	t.Parallel()
	read := func(name string) []byte {
		data, err := os.ReadFile(sampleFile("v1", name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	key := sampleSigner().Public()
	if _, err := VerifyManifest(read("bucket-catalog"), key); err != nil {
		t.Errorf("manifest: %v", err)
	}
	if _, err := VerifySegment(read("bucket-binlogs"), key); err != nil {
		t.Errorf("segment: %v", err)
	}
	var n Notes
	if err := json.Unmarshal(read("notes"), &n); err != nil {
		t.Fatal(err)
	}
	about := Manifest{ID: n.ID, Signature: &Signature{Value: n.Of}}
	if _, err := VerifyNotes(read("notes"), key, about); err != nil {
		t.Errorf("notes: %v", err)
	}
	for name, verify := range map[string]func(raw []byte) error{
		"bucket-catalog": func(raw []byte) error { _, err := VerifyManifest(raw, key); return err },
		"bucket-binlogs": func(raw []byte) error { _, err := VerifySegment(raw, key); return err },
		"notes":          func(raw []byte) error { _, err := VerifyNotes(raw, key, about); return err },
	} {
		newer := bytes.Replace(read(name), []byte(`"drydock.v1.`), []byte(`"drydock.v2.`), 1)
		if err := verify(newer); !errors.Is(err, bus.ErrNewer) {
			t.Errorf("%s of a newer version: %v, want to be told to upgrade", name, err)
		}
	}
}

// What a newer drydock wrote must be refused in so many words: half of it read would be worse than nothing.
func TestStateOfANewerVersionIsRefused(t *testing.T) {
	t.Parallel()
	for name, v := range state() {
		data, err := os.ReadFile(sampleFile("v1", name))
		if err != nil {
			t.Fatal(err)
		}
		newer := bytes.Replace(data, []byte(`"drydock.v1.`), []byte(`"drydock.v12.`), 1)
		if bytes.Equal(newer, data) {
			if reflect.TypeOf(v).Elem().Kind() == reflect.Struct { // another form of a map or list will have another key
				t.Errorf("%s has no version", name)
			}
			continue
		}
		if err := bus.Decode(newer, v); !errors.Is(err, bus.ErrNewer) || !strings.Contains(err.Error(), "upgrade") {
			t.Errorf("%s of a newer version: %v", name, err)
		}
	}
	if err := bus.Decode([]byte(`{"lines":["{\"type\":\"drydock.v9.job\"}"]}`), &bus.LogBatch{}); err != nil {
		t.Errorf("a log line that looks like a message: %v", err)
	}
	if err := bus.Decode([]byte(`{"state":"queued","t\u0079pe":"drydock\u002ev2.job"}`), &bus.JobEvent{}); !errors.Is(err, bus.ErrNewer) {
		t.Errorf("a version in other letters: %v", err)
	}
	// What a database host reports is kept as it came, and must not lock the slot of its job for good.
	if err := bus.Decode([]byte(`{"job":{"restore":{"type":"drydock.v9.x"}},"type":"drydock.v1.job"}`), &bus.JobEvent{}); err != nil {
		t.Errorf("an object inside that looks like a message: %v", err)
	}
}

// One message of a newer version, on a bus that two versions share while one is upgraded: who reads a slot or a bucket says
// so, who follows goes on with the rest, and who works through a queue leaves it to the one that knows it.
func TestNewerMessagesAreNeitherMisreadNorLost(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t)
	ctx := bustest.Context(t)
	key := job.Key{Cluster: "prod", Server: job.Server{Host: "db1", Port: 3306}, Task: "optimize"}
	subject := bus.JobSubject(key.Cluster, key.Server.Host, key.Server.Port, key.Task)
	put := func(subject, text string) {
		t.Helper()
		if _, err := conn.JS.Publish(ctx, subject, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	put(subject, `{"type":"drydock.v2.job","state":["queued","for later"]}`)
	if _, _, err := NewJobs(conn, "test", nil).Last(ctx, key); !errors.Is(err, bus.ErrNewer) {
		t.Errorf("the job of a newer version: %v", err)
	}
	kv, err := conn.Bucket(ctx, bus.BucketControl)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(ctx, keyClosures, []byte(`{"type":"drydock.v2.document","holds":[]}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := NewControl(conn).SetHold(ctx, Hold{By: "me"}); !errors.Is(err, bus.ErrNewer) {
		t.Errorf("a hold over a newer document: %v, want a refusal", err)
	}

	put("drydock.task.prod.optimize", `{"type":"drydock.v2.tick","outcome":"fired","id":"newer"}`)
	put("drydock.task.prod.analyze", `{"type":"drydock.v1.tick","outcome":"fired","id":"ours"}`)
	seen := make(chan string, 2)
	working, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() {
		_ = bus.Work(working, conn, bus.StreamTasks, "test", bus.AllTasks, func(_ context.Context, _ bus.Meta, t bus.Tick) error {
			seen <- t.ID
			return nil
		})
	})
	if got := <-seen; got != "ours" {
		t.Errorf("handled %s", got)
	}
	bustest.Until(t, 20*time.Second, "ours is acknowledged, the newer one is still wanted", func() bool {
		cons, err := conn.JS.Consumer(ctx, bus.StreamTasks, "test")
		if err != nil {
			return false
		}
		info, err := cons.Info(ctx)
		return err == nil && info.NumAckPending == 1 && info.NumPending == 0
	})
	var dead []string
	if err := bus.Read(ctx, conn, bus.StreamDeadletters, ">", bus.From{}, func(m bus.Meta, _ map[string]any) error {
		dead = append(dead, m.Subject)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(slices.Compact(dead)) > 0 {
		t.Errorf("set aside as dead: %q", dead)
	}
}
