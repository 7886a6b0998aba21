package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"drydock/internal/splitrig"
)

// split is a drydock in several processes on three servers of the bus, as compose.yaml has it.
type split struct {
	rig  *splitrig.Rig
	keys string // of the configuration: where the bus is
	loop string // the loop around the script that looks for a gateway that answers
	// roads are between the servers of the bus.
	roads roads
}

// slowed is the server of the bus that has a disk of its own.
const slowed = "nats-2"

// gatewayPort is that of every gateway: each has an address of its own.
const gatewayPort = 10005

func newSplit(o options, dir string) (*split, error) {
	rig, err := splitrig.New(o.repo, dir)
	if err != nil {
		return nil, err
	}
	rig.Drydock, rig.NATS = o.binary, filepath.Join(dir, "nats-server")
	if err := splitrig.Build(o.repo, rig.NATS); err != nil {
		return nil, err
	}
	s := &split{rig: rig, loop: filepath.Join(o.repo, "packaging/compose/dbjobs-loop")}
	if s.keys, err = rig.BusKeys(); err != nil {
		return nil, err
	}
	if s.roads, err = newRoads(s.servers(), rig.Addrs); err != nil {
		return nil, err
	}
	rig.Detours = s.roads.detours()
	return s, nil
}

// prepareSplit splits the drydock and gives one server of the bus a disk of its own, where that can be slowed.
func (s *site) prepareSplit(o options) (err error) {
	if s.split, err = newSplit(o, s.path("data")); err != nil {
		return err
	}
	home := s.split.rig.Home(slowed)
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	device, err := mountLoop(home, s.path("disk.img"), serverDisk)
	if err != nil {
		s.note("no server of the bus has a disk that gets slow: %v", err)
		return nil
	}
	s.disk = disk{path: home, device: device}
	return nil
}

func (s *split) command(name, config string) (*exec.Cmd, error) {
	return s.rig.Command(name, config, "DRYDOCK_MONITORING_DATADIR="+s.rig.Home(name))
}

// servers are those of the bus.
func (s *split) servers() []string {
	return slices.DeleteFunc(s.rig.Names(), func(name string) bool { return !splitrig.IsNATS(name) })
}

// drydocks are the others.
func (s *split) drydocks() []string { return slices.DeleteFunc(s.rig.Names(), splitrig.IsNATS) }

func (s *split) urls() (out []string) {
	for _, name := range []string{"gateway-1", "gateway-2"} {
		out = append(out, fmt.Sprintf("https://%s:%d", s.rig.Addrs[name], gatewayPort))
	}
	return out
}

func (s *split) bus() (urls string, login []nats.Option) {
	var all []string
	for _, name := range s.servers() {
		all = append(all, "tls://"+s.rig.Addrs[name]+":4222")
	}
	return strings.Join(all, ","), []nats.Option{nats.UserInfo("drydock", s.rig.Secrets["NATS_PASSWORD"]), nats.RootCAs(s.rig.CA())}
}

// apart are the blows against what a split drydock has more of. Of the bus's servers one is down at a time.
var apart = []blow{
	{"kill -9 one of each role", 10, (*storm).killEachRole},
	{"kill -9 a server of the bus", 12, (*storm).killServer},
	{"a server of the bus loses its disk", 4, (*storm).wipeServer},
	{"SIGSTOP a server of the bus", 8, (*storm).stopServer},
	{"a server of the bus cut off from the others", 10, (*storm).isolateServer},
	{"slow disk of a server of the bus", 6, (*storm).slowServer},
}

// killEachRole kills a scheduler, a gateway, a receiver, the alert role and a server of the bus, and starts them together.
func (st *storm) killEachRole(ctx context.Context) error {
	n := fmt.Sprint(1 + st.rng.IntN(2))
	names := []string{pickOf(st, st.site.split.servers()), "scheduler-" + n, "gateway-" + n, "receiver-" + n, "alert"}
	for _, name := range names {
		st.site.parts[name].kill()
	}
	pause(ctx, st.stopTime())
	if err := st.site.start(ctx, names...); err != nil {
		return err
	}
	return st.awaitBus(ctx, 3)
}

func (st *storm) killServer(ctx context.Context) error {
	name := pickOf(st, st.site.split.servers())
	st.site.parts[name].kill()
	pause(ctx, st.stopTime())
	if err := st.site.start(ctx, name); err != nil {
		return err
	}
	return st.awaitBus(ctx, 3)
}

// wipeServer has a server come back with an empty disk. It comes when the other two have leaders: with one that has
// forgotten everything a copy that lags could win an election against what was acknowledged, which no three copies survive.
func (st *storm) wipeServer(ctx context.Context) error {
	name := pickOf(st, st.site.split.servers())
	st.site.parts[name].kill()
	if err := st.awaitBus(ctx, 2); err != nil {
		return err
	}
	kept, err := filepath.Glob(filepath.Join(st.site.split.rig.Home(name), "*")) // the folder may be a mount
	if err != nil {
		return err
	}
	for _, path := range kept {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	if err := st.site.start(ctx, name); err != nil {
		return err
	}
	return st.awaitBus(ctx, 3)
}

// isolateServer cuts a server off from the other two for 1 to 10 seconds. Those who are connected to it still are, also when it
// leads: what it acknowledges alone, or tells of the past, would be wrong.
func (st *storm) isolateServer(ctx context.Context) error {
	name := pickOf(st, st.site.split.servers())
	if st.leader(ctx, "DRYDOCK_JOBS") == name {
		st.count["of them the leader of DRYDOCK_JOBS"]++
	}
	heal, err := st.site.split.roads.isolate(name, st.site.split.servers())
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer heal()
	pause(ctx, time.Second+time.Duration(st.rng.Int64N(int64(9*time.Second))))
	heal()
	return st.awaitBus(ctx, 3)
}

// leader is the server that leads a stream, empty when nobody says.
func (st *storm) leader(ctx context.Context, stream string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	js, err := jetstream.New(st.nc)
	if err != nil {
		return ""
	}
	s, err := js.Stream(ctx, stream)
	if err != nil || s.CachedInfo().Cluster == nil {
		return ""
	}
	return s.CachedInfo().Cluster.Leader
}

// slowServer lets the disk of a server take some ten writes a second.
func (st *storm) slowServer(ctx context.Context) error {
	if err := st.slow(ctx, slowed); err != nil {
		return err
	}
	return st.awaitBus(ctx, 3)
}

func (st *storm) stopServer(ctx context.Context) error {
	name := pickOf(st, st.site.split.servers())
	if err := st.stopFor(ctx, st.site.parts[name].cmd.Process.Pid); err != nil {
		return err
	}
	return st.awaitBus(ctx, 3)
}

// awaitBus waits until every stream has a leader and as many up-to-date copies: the next blow may take one of them. A server
// that does not catch up by itself is started again once, as its operator would, and the report says so.
func (st *storm) awaitBus(ctx context.Context, copies int) error {
	js, err := jetstream.New(st.nc)
	if err != nil {
		return err
	}
	again := false
	for end := time.Now().Add(upWithin); ; {
		ill, err := st.healthy(ctx, copies)
		err = errors.Join(st.copied(ctx, js, copies), err)
		switch {
		case err == nil:
			return nil
		case time.Now().After(end) && !again && len(ill) == 1:
			st.site.note("%s DOES NOT CATCH UP and is started again: %v\n%s", ill[0], err, st.site.parts[ill[0]].said())
			if err := st.killAndStart(ctx, ill[0]); err != nil {
				return err
			}
			again, end = true, time.Now().Add(upWithin)
		case time.Now().After(end):
			return fmt.Errorf("the bus is not whole again: %w", err)
		case !pause(ctx, 200*time.Millisecond):
			return ctx.Err()
		}
	}
}

func (st *storm) copied(ctx context.Context, js jetstream.JetStream, copies int) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	all, streams := js.ListStreams(ctx), 0
	for info := range all.Info() {
		streams++
		if info.Cluster == nil || info.Cluster.Leader == "" {
			return fmt.Errorf("%s has no leader", info.Config.Name)
		}
		current := 1
		for _, peer := range info.Cluster.Replicas {
			if peer.Current && !peer.Offline {
				current++
			}
		}
		if current < copies {
			return fmt.Errorf("%s has %d copies that are up to date", info.Config.Name, current)
		}
	}
	if streams == 0 && all.Err() == nil {
		return errors.New("it lists no streams")
	}
	return all.Err()
}

// healthy asks the servers themselves, which also know of consumers and of the record of all streams. ill are those that
// do not say that they are well.
func (st *storm) healthy(ctx context.Context, copies int) (ill []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	servers := st.site.split.servers()
	for _, name := range servers {
		if e := st.site.split.rig.Healthy(ctx, name); e != nil {
			ill, err = append(ill, name), errors.Join(err, fmt.Errorf("%s: %w", name, e))
		}
	}
	if len(servers)-len(ill) >= copies {
		return ill, nil
	}
	return ill, err
}
