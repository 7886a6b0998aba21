package app

import (
	"drydock/config"
	"drydock/job"
	"drydock/store"
)

// Servers turns configured servers into the domain's.
func Servers(list []config.Server) []job.Server {
	out := make([]job.Server, len(list))
	for i, s := range list {
		out[i] = job.Server{Host: s.Host, Port: s.Port}
	}
	return out
}

// backupServers are the servers that backups come from: db-servers-backup-hosts, or all.
func backupServers(c config.Cluster) []job.Server {
	if len(c.BackupHosts) > 0 {
		return Servers(c.BackupHosts)
	}
	return Servers(c.Servers)
}

// Targets are the servers on which a task of the cluster runs when nobody names any; the zero one for a task
// that does the whole cluster.
func Targets(c config.Cluster, t job.Task) []job.Server {
	if t.Whole {
		return []job.Server{{}}
	}
	if t.Kind == job.KindBackup {
		return backupServers(c)
	}
	return Servers(c.Servers)
}

// Sources is where a logical backup of the cluster may be taken from.
func Sources(c config.Cluster) store.Sources {
	return store.Sources{Servers: Servers(c.Servers), Preferred: Servers(c.BackupHosts), MaxLag: c.MaxLag}
}
