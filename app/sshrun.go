package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"drydock/config"
	"drydock/job"
	"drydock/scheduler/sshrun"
	"drydock/store"
)

// sshCluster is what the SSH runner needs of a cluster.
func sshCluster(c config.Cluster) sshrun.Cluster {
	s := c.SSH
	return sshrun.Cluster{
		Name: c.Name, Servers: Servers(c.Servers), User: c.User, Password: c.Password.Reveal(), ReceiverPorts: c.ReceiverPorts,
		Enabled: s.Enabled && c.Scheduler, Spec: s.Cron, Zone: c.Timezone, Timeout: s.Timeout, Script: s.Script,
		Login: sshrun.Login{Port: s.Port, User: s.User, Password: s.Password.Reveal(), KeyFile: s.Key, KnownHosts: s.KnownHosts},
	}
}

func sshConfig(cfg *config.Config, log *slog.Logger) (sshrun.Config, error) {
	g := cfg.Global
	out := sshrun.Config{DataDir: g.Datadir, APIPort: g.APIPort, Concurrency: g.SSHSessions, Log: log.With("component", "sshrun")}
	if len(g.Users) > 0 { // maintenance.txt section 6.1.5 gives the scripts the administrator, who comes first
		out.APIUser, out.APIPassword = g.Users[0].Name, g.Users[0].Password.Reveal()
	}
	for _, c := range cfg.Clusters {
		out.Clusters = append(out.Clusters, sshCluster(c))
	}
	if !slices.ContainsFunc(out.Clusters, func(c sshrun.Cluster) bool { return c.Enabled }) {
		return out, nil // no address is needed then
	}
	var err error
	out.APIHost, err = g.AdvertisedAddress()
	return out, err
}

// newSSHRunner makes the runner, which does nothing until a configuration switches it on.
func (p *process) newSSHRunner() (*sshrun.Runner, error) {
	cfg, err := sshConfig(p.Config, p.Log)
	if err != nil {
		return nil, err
	}
	return sshrun.New(cfg, store.NewLeases(p.conn, actor(RoleScheduler, p.name), sshrun.LeaseTerm))
}

// reloadSSH takes new schedules and logins in.
func (p *process) reloadSSH(cfg *config.Config) error {
	c, err := sshConfig(cfg, p.Log)
	if err != nil {
		return err
	}
	return p.ssh.Reload(c)
}

// firstOnHost says whether no earlier server of the cluster is on the same host.
func firstOnHost(c config.Cluster, i int) bool {
	return slices.IndexFunc(c.Servers, func(s config.Server) bool { return s.Host == c.Servers[i].Host }) == i
}

// checkSSH logs in to the host of a server if the script is run there over SSH.
func checkSSH(ctx context.Context, c config.Cluster, s job.Server) []Item {
	if !c.SSH.Enabled {
		return nil
	}
	name := fmt.Sprintf("%s: ssh %s@%s", c.Name, c.SSH.User, job.Server{Host: s.Host, Port: c.SSH.Port}.Addr())
	ctx, cancel := context.WithTimeout(ctx, 2*checkTimeout)
	defer cancel()
	return loginItem(name, sshrun.Probe(ctx, sshCluster(c), s))
}

// loginItem is how it went to log in to a host.
func loginItem(name string, err error) []Item {
	var hinted *sshrun.Hinted
	switch {
	case errors.As(err, &hinted):
		return []Item{{Fail, name, hinted.Err.Error(), hinted.Hint}}
	case err != nil:
		return []Item{{Fail, name, err.Error(), ""}}
	}
	return []Item{{OK, name, "can log in", ""}}
}
