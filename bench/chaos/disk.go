package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// disk is the small one below drydock's data folder, bus and backups. On a loop device it has what real ones have: a sync
// that costs something, and a rate of writes that the kernel can be told.
type disk struct {
	path   string // where it is mounted; empty: nowhere
	device string // major:minor of the loop device; empty: it is in memory, and never slow
	why    error  // it is in memory
}

const (
	diskSize   = 512 << 20
	serverDisk = 2 << 30 // of a server of the bus: nothing is to fill it
	// throttleFile takes "MAJOR:MINOR WRITES" per second; in the root group it holds for everyone who writes there.
	throttleFile = "/sys/fs/cgroup/blkio/blkio.throttle.write_iops_device"
)

// mountDisk puts ext4 in the file image, over a loop device, at path; where that cannot be, a file system in memory.
func mountDisk(path, image string) (disk, error) {
	device, why := mountLoop(path, image, diskSize)
	if why == nil {
		return disk{path: path, device: device}, nil
	}
	if err := command("mount", "-t", "tmpfs", "-o", fmt.Sprint("mode=0700,size=", diskSize), "tmpfs", path); err != nil {
		return disk{}, errors.Join(why, err)
	}
	return disk{path: path, why: why}, nil
}

func mountLoop(path, image string, size int64) (device string, err error) {
	if _, err := os.Stat(throttleFile); err != nil {
		return "", err // its one use here
	}
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return "", err
	}
	if err := os.Truncate(image, size); err != nil {
		return "", err
	}
	if err := command("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1", image); err != nil {
		return "", err
	}
	if err := command("mount", "-o", "loop", image, path); err != nil {
		return "", err
	}
	if device, err = deviceOf(path); err != nil {
		return "", errors.Join(err, command("umount", path))
	}
	return device, os.Remove(filepath.Join(path, "lost+found"))
}

// deviceOf is MAJOR:MINOR of what is mounted at path.
func deviceOf(path string) (string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == path {
			return f[2], nil
		}
	}
	return "", fmt.Errorf("%s is not mounted", path)
}

// slow bounds the writes a second; 0 lifts the bound.
func (d disk) slow(writes int) error {
	return os.WriteFile(throttleFile, fmt.Appendf(nil, "%s %d", d.device, writes), 0)
}

func (d disk) unmount() {
	if d.device != "" {
		_ = d.slow(0) // the device's number is somebody else's next
	}
	if d.path != "" {
		_ = command("umount", "-l", d.path)
	}
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
