package rolling

import "syscall"

// childAttr puts a hook into a group of its own, and ends it with drydock.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
