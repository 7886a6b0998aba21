//go:build !linux

package local

import "syscall"

// processGroup gives a tool a group of its own. A drydock that is killed leaves it behind.
func processGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
