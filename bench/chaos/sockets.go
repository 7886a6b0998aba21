package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// checkPorts compares the ports that drydock listens on with those that it may.
func (v *verdict) checkPorts(s *site, reserved int) {
	n := 0
	for _, name := range s.drydocks() {
		ports, err := listening(s.parts[name].cmd.Process.Pid)
		if err != nil {
			v.broken(promisePorts, "", nil, "%v", err)
		}
		n += len(ports)
		for _, p := range s.ports(name) { // also shows that the list was read
			if err == nil && !slices.Contains(ports, p) {
				v.broken(promisePorts, "", nil, "%s does not listen on port %d", name, p)
			}
		}
		for _, p := range ports {
			if !slices.Contains(s.ports(name), p) {
				v.broken(promisePorts, "", nil, "%s listens on port %d, and no job needs it", name, p)
			}
		}
	}
	if reserved != 0 {
		v.broken(promisePorts, "", nil, "the receivers say that %d ports are in use", reserved)
	}
	v.checked("%d listening sockets of drydock, by /proc, and the receivers' own count", n)
}

// ports are those that a part listens on for good.
func (s *site) ports(name string) []int {
	switch {
	case s.split == nil:
		return []int{s.api, s.nats}
	case strings.HasPrefix(name, "gateway-"):
		return []int{gatewayPort}
	}
	return nil
}

// listening are the TCP ports that a process listens on.
func listening(pid int) (ports []int, err error) {
	own := map[string]bool{}
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil {
			own[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
		}
	}
	for _, name := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, name))
		if err != nil {
			return nil, fmt.Errorf("list the sockets of drydock: %w", err)
		}
		for _, line := range strings.Split(string(text), "\n")[1:] {
			f := strings.Fields(line)
			if len(f) < 10 || f[3] != "0A" || !own[f[9]] { // 0A is LISTEN
				continue
			}
			port, err := strconv.ParseInt(f[1][strings.LastIndexByte(f[1], ':')+1:], 16, 32)
			if err != nil {
				return nil, fmt.Errorf("read %q: %w", line, err)
			}
			ports = append(ports, int(port))
		}
	}
	return ports, nil
}
