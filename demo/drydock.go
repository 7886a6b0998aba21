package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"time"

	"drydock/app"
	"drydock/scripts"
)

// startDrydock runs drydock in this process, with its log in a file, and returns when it is up.
func (d *demo) startDrydock(ctx context.Context) error {
	log, err := os.OpenFile(d.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open drydock's log: %w", err)
	}
	running, stop := context.WithCancel(context.Background())
	up := make(chan app.Addresses, 1) // drydock sends once
	ended := make(chan struct{})
	var result error // set before ended is closed
	go func() {
		defer close(ended)
		result = app.Run(running, app.Options{
			Config: d.cfg, Version: d.Version, Log: slog.New(slog.NewTextHandler(log, nil)),
			Started: func(a app.Addresses) { up <- a },
		})
	}()
	d.cleanup.add("stop drydock", func() error {
		stop()
		<-ended
		if errors.Is(result, context.Canceled) { // stopped while it started
			return log.Close()
		}
		return errors.Join(result, log.Close())
	})
	select {
	case d.addrs = <-up:
	case <-ended:
		return fmt.Errorf("start drydock: %w", exitError(result))
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	d.monitor("drydock", ended, func() error { return exitError(result) })
	if late := time.Since(d.ticks.logs); late > 0 {
		return fmt.Errorf("drydock took %s longer to start than the first tick lay ahead: this machine is too busy for the demo", seconds(late))
	}
	d.say("drydock is up; the first ticks are due at %s UTC", d.ticks.logs.Format(time.TimeOnly))
	return nil
}

func (d *demo) logFile() string { return d.path("drydock.log") }

const (
	loopPause = "1"             // seconds between two cycles of the script
	stopGrace = 3 * time.Second // for the script to end its tasks; what it still has to report is thrown away with all else
)

// startHosts runs the dbjobs script for each server, as its host would.
func (d *demo) startHosts(context.Context) error {
	for _, s := range d.sites() {
		if err := d.startHost(s); err != nil {
			return fmt.Errorf("start dbjobs for cluster %s: %w", s.cluster, err)
		}
	}
	return nil
}

func (d *demo) startHost(s *site) error {
	dir := d.path("hosts", s.cluster)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	script, log := dir+"/dbjobs", dir+"/dbjobs.log"
	if err := os.WriteFile(script, scripts.Script(), 0o700); err != nil {
		return err
	}
	out, err := os.Create(log)
	if err != nil {
		return err
	}
	defer out.Close() // the child has its own copy
	cmd := exec.Command("bash", script, "--loop", loopPause)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, d.hostEnvironment(s, dir), out, out
	// With SIGTERM, the script ends its own tasks when the demo is killed.
	c, err := startChild(cmd, syscall.SIGTERM)
	if err != nil {
		return err
	}
	d.cleanup.add("end dbjobs of cluster "+s.cluster, func() error { c.stop(stopGrace); return nil })
	d.monitor("dbjobs of cluster "+s.cluster, c.done, func() error {
		return fmt.Errorf("%w: %s", exitError(c.err), lastLines(log, 3))
	})
	return nil
}

// hostEnvironment is the script's environment block (maintenance.txt section 6.1.5), and nothing of ours.
func (d *demo) hostEnvironment(s *site, dir string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin",
		"HOME=" + dir,
		"TMPDIR=" + dir,
		"REPLICATION_MANAGER_URL=https://" + d.addrs.API,
		"REPLICATION_MANAGER_CLUSTER_NAME=" + s.cluster,
		"REPLICATION_MANAGER_HOST_NAME=127.0.0.1",
		fmt.Sprintf("REPLICATION_MANAGER_HOST_PORT=%d", s.server.Port()),
		"REPLICATION_MANAGER_HOST_USER=" + s.server.User(),
		"REPLICATION_MANAGER_HOST_PASSWORD=" + d.password,
		"DRYDOCK_STATE_DIR=" + dir + "/state",
	}
}
