//go:build !linux

package rolling

import "syscall"

// childAttr puts a hook into a group of its own.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
