package main

import (
	"fmt"
	"slices"
	"time"

	"drydock/app"
	"drydock/config"
	"drydock/job"
)

// clusterNamed is the cluster of this name in the configuration.
func clusterNamed(cfg *config.Config, name string) (config.Cluster, error) {
	cluster, ok := cfg.Cluster(name)
	if !ok {
		return cluster, fmt.Errorf("no cluster %q in %s", name, cfg.File)
	}
	return cluster, nil
}

// scope is the cluster that a command names first, "" for the whole fleet.
func scope(cfg *config.Config, args []string) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	cluster, err := clusterNamed(cfg, args[0])
	return cluster.Name, err
}

// clustersNamed are the one cluster that the arguments name, or all without any.
func clustersNamed(cfg *config.Config, args []string) (names []string, err error) {
	one, err := scope(cfg, args)
	if err != nil || one != "" {
		return []string{one}, err
	}
	for _, cl := range cfg.Clusters {
		names = append(names, cl.Name)
	}
	return names, nil
}

// serverNamed is the server that somebody wrote down, with the usual port where there is none.
func serverNamed(text string) (job.Server, error) {
	s, err := job.ParseServer(text)
	if err == nil && s.Port == 0 {
		s.Port = 3306
	}
	return s, err
}

// serverOf is the server of a cluster that somebody wrote down.
func serverOf(cluster config.Cluster, text string) (job.Server, error) {
	s, err := serverNamed(text)
	if err == nil && !slices.Contains(app.Servers(cluster.Servers), s) {
		err = fmt.Errorf("no server %s in cluster %s", s, cluster.Name)
	}
	return s, err
}

// onlyServer is the server that a list is narrowed to by --server: the zero one, which narrows nothing, without it.
func onlyServer(text string) (job.Server, error) {
	if text == "" {
		return job.Server{}, nil
	}
	return job.ParseServer(text)
}

// ago is the time so long before now, for --since: the zero one, which narrows nothing, for 0.
func ago(d time.Duration) time.Time {
	if d <= 0 {
		return time.Time{}
	}
	return time.Now().Add(-d)
}
