package gateway

import (
	"net"

	"golang.org/x/sys/unix"
)

// quickAck asks the kernel to acknowledge without delay for a while. It is a hint: a failure costs time only.
func quickAck(c *net.TCPConn) {
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
	}
}
