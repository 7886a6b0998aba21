package rolling

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"drydock/child"
	"drydock/job"
)

const (
	keptOutput = 16 << 10 // of a hook, its beginning
	hookGrace  = 5 * time.Second
)

// preScript runs rolling-pre-script. It may have moved the primary: then it says so, and the roles are read again.
func (w *work) preScript(ctx context.Context, at int) error {
	out, err := w.hook(ctx, at, w.cluster.PreScript, "pre")
	if err != nil {
		return err
	}
	text := primaryLine(out)
	if text == "" {
		return nil
	}
	primary, err := job.ParseServer(text)
	if err != nil {
		return fmt.Errorf("the hook named the primary %q: %w", text, err)
	}
	if primary.Port == 0 {
		primary.Port = 3306
	}
	var plan []job.Stage
	err = w.few(ctx, func(all answers) (err error) {
		plan, err = moved(w.cluster.Servers, w.job.Plan.Stages, at, all, primary)
		return err
	})
	if err != nil {
		return err
	}
	return w.record(ctx, "the hook moved the primary to "+primary.String(), func(j *job.Job) { j.Plan.Stages = plan })
}

func (w *work) postScript(ctx context.Context, at int) error {
	_, err := w.hook(ctx, at, w.cluster.PostScript, "post")
	return err
}

// primaryLine is the server of the last line `primary=HOST:PORT`, empty when there is none.
func primaryLine(out string) (server string) {
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "primary="); ok {
			server = strings.TrimSpace(rest)
		}
	}
	return server
}

// hook runs a script of the user's, if there is one, and returns what it wrote to its standard output. It ends with ctx
// and with drydock; an abort waits for it.
func (w *work) hook(ctx context.Context, at int, path, when string) (string, error) {
	if path == "" {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.cluster.ScriptTimeout)
	defer cancel()
	out, errs := child.Head{Most: keptOutput}, child.Head{Most: keptOutput}
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = w.environment(at, when)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.SysProcAttr = child.Attr()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = hookGrace
	// A child that is to end with us ends with the thread that made it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	if cmd.Process != nil && ctx.Err() != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left behind; there may be nothing
	}
	switch {
	case ctx.Err() == context.DeadlineExceeded:
		return "", fmt.Errorf("%s did not end within rolling-script-timeout = %s", path, w.cluster.ScriptTimeout)
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil:
		return "", fmt.Errorf("%s: %w: %s", path, err, lastLine(errs.String()+"\n"+out.String()))
	}
	return out.String(), nil
}

// environment is all that a hook gets of ours: nothing that drydock itself was given.
func (w *work) environment(at int, when string) []string {
	s := w.at(at)
	env := []string{
		"DRYDOCK_CLUSTER=" + w.cluster.Name, "DRYDOCK_HOST=" + s.Server.Host, "DRYDOCK_PORT=" + strconv.Itoa(s.Server.Port),
		"DRYDOCK_ROLE=" + s.Role, "DRYDOCK_TASK=" + w.job.Task, "DRYDOCK_JOB=" + w.job.ID, "DRYDOCK_HOOK=" + when,
		"DRYDOCK_STEP=" + strconv.Itoa(at+1), "DRYDOCK_STEPS=" + strconv.Itoa(len(w.job.Plan.Stages)),
	}
	for _, name := range []string{"PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
