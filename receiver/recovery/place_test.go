package recovery

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// What a killed restore had started still writes: it must be gone before its folder is, or the next one finds strange files.
func TestWhatACutRestoreStartedIsEndedWithItsRemains(t *testing.T) {
	t.Parallel()
	p, err := NewPlace(filepath.Join(t.TempDir(), "restored"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Take(false); err != nil {
		t.Fatal(err)
	}
	if err := p.lock.Close(); err != nil { // as a kill does
		t.Fatal(err)
	}
	stray, foreign := exec.Command("sleep", "300"), exec.Command("sleep", "300")
	stray.Env, foreign.Env = []string{"HOME=" + p.Work()}, append(os.Environ(), "HOME="+filepath.Dir(p.Work()))
	for _, c := range []*exec.Cmd{stray, foreign} {
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Take(true); err != nil {
		t.Error(err)
	}
	defer func() {
		if err := p.Leave(); err != nil {
			t.Error(err)
		}
	}()
	for c, want := range map[*exec.Cmd]syscall.Signal{stray: syscall.SIGKILL, foreign: syscall.SIGTERM} {
		_ = c.Process.Signal(syscall.SIGTERM) // too late when it was killed
		_ = c.Wait()
		if status, ok := c.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != want {
			t.Errorf("%v: %v, want %v", c.Env[len(c.Env)-1], c.ProcessState, want)
		}
	}
}
