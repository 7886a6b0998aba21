package notify

import "syscall"

// childAttr gives a program a group of its own, which ends with drydock.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
