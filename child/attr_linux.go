package child

import "syscall"

// Attr gives a program a process group of its own, to be ended with all it starts, and has the kernel end it with the thread
// that starts it, and so with drydock: [runtime.LockOSThread] keeps the thread.
func Attr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
