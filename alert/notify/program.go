package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"drydock/child"
)

const (
	keptOutput = 8 << 10 // bytes of what a program says, its beginning
	killGrace  = 2 * time.Second
)

// deliver tries once. Its error, without secrets, says why the destination did not take the message. The library runs in
// a process of its own: not all of its services have deadlines, and one that hangs or breaks must not take drydock along.
func (n *Notifier) deliver(ctx context.Context, d Destination, m Message) error {
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	argv, input, env := []string{d.Program}, any(m), scriptEnv(m)
	if d.Program == "" {
		argv, input, env = n.cfg.Sender, sendRequest{d.URL, m}, nil
	}
	data, err := json.Marshal(input)
	if err != nil {
		return fmt.Errorf("encode the message: %w", err)
	}
	out, err := runProgram(ctx, argv, append(env, plainEnv()...), data)
	said := n.secrets.clean(out)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("no answer within %s", d.Timeout)
	case exitStatus(err) == partlyStatus && d.Program == "":
		return fmt.Errorf("%w: %s", errPartly, strings.TrimPrefix(said, errPartly.Error()+": "))
	case err != nil && said == "":
		return fmt.Errorf("%s", n.secrets.clean(err.Error()))
	case err != nil && d.Program == "":
		return fmt.Errorf("%s", said)
	case err != nil:
		return fmt.Errorf("%s: %s", n.secrets.clean(err.Error()), said)
	}
	if d.Program != "" && said != "" {
		n.log.Info("alert-script says", "notification", m.ID, "output", said)
	}
	return nil
}

// scriptEnv is what alert-script finds in its environment, for those that do not read JSON.
func scriptEnv(m Message) []string {
	return []string{
		"DRYDOCK_NOTIFICATION=" + m.ID, "DRYDOCK_SEVERITY=" + string(m.Severity), "DRYDOCK_TITLE=" + m.Title,
		fmt.Sprintf("DRYDOCK_CONDITIONS=%d", len(m.Conditions)), fmt.Sprintf("DRYDOCK_TEST=%v", m.Test),
	}
}

// plainEnv is what programs get of ours: nothing that drydock itself was given.
func plainEnv() (env []string) {
	for _, name := range []string{
		"PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR",
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
	} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// runProgram gives input to a program and returns the beginning of what it says. When ctx ends, its whole group is killed.
func runProgram(ctx context.Context, argv, env []string, input []byte) (string, error) {
	out := child.Head{Most: keptOutput}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Stdin = env, bytes.NewReader(input)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = child.Attr()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = killGrace
	// A child that is to end with us ends with the thread that made it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left behind; there may be nothing
	}
	if err != nil && strings.Contains(err.Error(), "broken pipe") && cmd.ProcessState.Success() {
		err = nil // it did not want to read all of it
	}
	return out.String(), err
}

// exitStatus is 0 when err is not about one.
func exitStatus(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}
