package recovery

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// EndStrays kills the processes that work in a folder whose owner is gone: what a tool had started outlives it, as the server
// does that mariadb-install-db runs. They are known by their HOME, which is the folder and nobody else's. Without /proc
// there is nothing to find.
func EndStrays(folder string) {
	home := []byte("HOME=" + folder)
	none := 0 // looks in a row that found nobody
	for range strayLooks {
		none++
		for _, pid := range homed(home) {
			none = 0
			_ = syscall.Kill(pid, syscall.SIGKILL) // gone already is as good
		}
		if none == 2 { // a process shows no environment while it begins another program
			return
		}
		time.Sleep(strayGap)
	}
}

// How often it is looked whether the killed are gone, and how long between.
const (
	strayLooks = 100
	strayGap   = 20 * time.Millisecond
)

// homed are the processes with that variable in their environment.
func homed(variable []byte) (pids []int) {
	list, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range list {
		env, err := os.ReadFile(path)
		if err != nil { // somebody else's, or gone
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil || pid == os.Getpid() {
			continue
		}
		for v := range bytes.SplitSeq(env, []byte{0}) {
			if bytes.Equal(v, variable) {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}
