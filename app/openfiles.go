package app

import (
	"cmp"
	"fmt"
	"log/slog"
	"syscall"

	"drydock/config"
	"drydock/job"
	"drydock/receiver"
)

// filesBesides is how many files a process may have open besides its connections to servers and callers and the ports of streams:
// those of the bus, of logs, of archives.
const filesBesides = 1024

// openFiles is how many files may be open at once (RLIMIT_NOFILE; Go has raised it to the hard limit), and how many are when the connections
// to all servers are kept. Of what lasts for one question there are never many.
func openFiles(cfg *config.Config) (limit, wanted uint64) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		r.Cur = 1 << 30 // it cannot be told here: as if there were none
	}
	const (
		facts, rows = 1, 2 // connections to a server, which the scheduler and the gateway keep
		binlogs     = 2    // for a cluster: the connection to its primary and the file that is being written
	)
	wanted = filesBesides + uint64(cfg.Global.MaxConnections)
	streams := 0 // that may have a port, which listens from the offer on
	for _, c := range cfg.Clusters {
		each := facts
		if job.Mode(c.JobsMode) == job.SQL {
			each += rows
		}
		wanted += uint64(each * len(c.Servers))
		streams += len(job.Tasks()) * len(c.Servers)
		if c.Binlogs.Enabled {
			wanted += binlogs
		}
	}
	return r.Cur, wanted + uint64(min(streams, cmp.Or(len(cfg.Global.Receiver.Ports), receiver.MostPorts)))
}

// frugal says that there are too many servers to keep a connection to each. Without files left the bus could not write its own.
func frugal(cfg *config.Config) bool {
	limit, wanted := openFiles(cfg)
	return wanted > limit
}

const filesHint = "raise it (LimitNOFILE of the service, ulimit -n)"

func warnOfOpenFiles(cfg *config.Config, log *slog.Logger) {
	if limit, wanted := openFiles(cfg); wanted > limit {
		log.Warn("too few files may be open to keep a connection to each server: a new one is made for each question, which costs both sides more; "+filesHint,
			"limit", limit, "wanted", wanted)
	}
}

func checkOpenFiles(cfg *config.Config) Item {
	limit, wanted := openFiles(cfg)
	it := Item{OK, "open files", fmt.Sprintf("%d may be open here, %d are wanted", limit, wanted), ""}
	if wanted > limit {
		it.Status, it.Hint = Warn, filesHint+": without that no connection to a server is kept, and each question makes a new one"
	}
	return it
}
