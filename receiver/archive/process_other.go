//go:build !linux

package archive

import (
	"os"
	"syscall"
)

// dieWithParent cannot be had here: a restic whose drydock was killed goes on to its end.
func dieWithParent() *syscall.SysProcAttr { return nil }

func interrupt(p *os.Process) error { return p.Signal(os.Interrupt) }
