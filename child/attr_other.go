//go:build !linux

package child

import "syscall"

// Attr gives a program a process group of its own. A drydock that is killed leaves it behind.
func Attr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
