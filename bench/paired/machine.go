package paired

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// Machine describes in one line where figures come from, and what else ran there.
func Machine() string {
	memory, _ := lookUp("/proc/meminfo", "MemTotal:")
	model, _ := lookUp("/proc/cpuinfo", "model name\t:")
	load, _ := os.ReadFile("/proc/loadavg")
	return fmt.Sprintf("%s: %d cores of %s, memory %s, kernel %s, files on %s, %s; load before: %s",
		time.Now().UTC().Format("2006-01-02 15:04 UTC"), runtime.NumCPU(), model, memory, said("uname", "-r"),
		said("stat", "-f", "-c", "%T", os.TempDir()), runtime.Version(), strings.TrimSpace(string(load)))
}

func said(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// lookUp is what stands behind the first field of that name in a file of /proc.
func lookUp(path, field string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		if rest, ok := strings.CutPrefix(sc.Text(), field); ok {
			return strings.TrimSpace(rest), nil
		}
	}
	return "", fmt.Errorf("read %s: no %s", path, field)
}
