package app

import (
	"log/slog"
	"path/filepath"

	"drydock/config"
	"drydock/receiver/archive"
)

func archiveConfig(cfg *config.Config, name string, log *slog.Logger) archive.Config {
	out := archive.Config{Name: name, DataDir: cfg.Global.Datadir, Log: log.With("component", "archive")}
	for _, c := range cfg.Clusters {
		out.Clusters = append(out.Clusters, archive.Cluster{
			Name: c.Name, Servers: Servers(c.Servers), On: c.Archive.Enabled, Repository: repository(cfg, c),
			Keep: archive.Keep{
				Last: c.Archive.KeepLast, Hourly: c.Archive.KeepHourly, Daily: c.Archive.KeepDaily,
				Weekly: c.Archive.KeepWeekly, Monthly: c.Archive.KeepMonthly, Yearly: c.Archive.KeepYearly,
			},
			CheckSubset: c.Archive.CheckSubset,
		})
	}
	return out
}

// archiveSettings are those that a restart puts in force; the schedules need none.
func archiveSettings(c config.Cluster) config.Archive {
	a := c.Archive
	a.Prune, a.Check = config.Schedule{}, config.Schedule{}
	return a
}

// repository is where the archive of a cluster is.
func repository(cfg *config.Config, c config.Cluster) archive.Repository {
	a := c.Archive
	r := archive.Repository{
		Binary: a.Binary, Location: a.Repository, Password: a.Password.Reveal(), Args: a.Args, Timeout: a.Timeout,
		UploadKiB: a.Upload, DownloadKiB: a.Download,
	}
	if r.Location == "" {
		r.Location = filepath.Join(cfg.Global.Datadir, "archive", c.Name)
	}
	if a.AWS {
		r.AWSKey, r.AWSSecret = a.AWSKey.Reveal(), a.AWSSecret.Reveal()
	}
	return r
}
