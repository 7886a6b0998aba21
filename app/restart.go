package app

import (
	"fmt"
	"log/slog"
	"reflect"
	"strings"

	"drydock/config"
)

// needRestart names what a reload leaves as it was though it changed between two configurations. It compares what the
// services that cannot be reloaded are made from, so that a new key needs no mention here.
func needRestart(old, fresh *config.Config) (changed []string) {
	if !reflect.DeepEqual(old.Global, fresh.Global) {
		changed = append(changed, "keys of [Default] that concern the whole process")
	}
	was, now := fixedParts(old), fixedParts(fresh)
	for _, c := range old.Clusters {
		if now[c.Name] == nil {
			changed = append(changed, fmt.Sprintf("cluster %s is gone", c.Name))
		}
	}
	for _, c := range fresh.Clusters {
		if was[c.Name] == nil {
			changed = append(changed, "new cluster "+c.Name)
			continue
		}
		var names []string
		for i, p := range now[c.Name] {
			if !reflect.DeepEqual(was[c.Name][i].settings, p.settings) {
				names = append(names, p.name)
			}
		}
		if len(names) > 0 {
			changed = append(changed, fmt.Sprintf("keys of cluster %s that concern %s", c.Name, strings.Join(names, ", ")))
		}
	}
	return changed
}

// fixedPart is what one service that is not reloaded knows of a cluster.
type fixedPart struct {
	name     string
	settings any
}

// fixedParts are those services' settings, by cluster, in the same order for each.
func fixedParts(cfg *config.Config) map[string][]fixedPart {
	same := *cfg // what is the same for all clusters was compared already; an address is not looked for
	same.Global = config.Global{Address: "localhost"}
	log := quietLog()
	// They fail for want of an address only.
	api, _ := gatewayConfig(&same, "", "", log)
	rows, _ := dispatchConfig(&same, log)
	streams, _ := receiverConfig(&same, "", "", log)
	work, _ := localConfig(&same, "", log)
	rolls := rollingConfig(&same, "", log)
	out := map[string][]fixedPart{}
	for i, c := range cfg.Clusters {
		out[c.Name] = []fixedPart{
			{"the API", api.Clusters[i]},
			{"the dispatch of jobs", rows.Clusters[i]},
			{"the streams", streams.Clusters[c.Name]},
			{"the tasks over SQL", work.Clusters[i]},
			{"rolling operations", rolls.Clusters[i]},
			{"the orchestrator", c.Orchestrator},
			{"the encryption of backups", []any{c.EncryptRecipients, c.EncryptIdentity}},
			{"the archive", archiveSettings(c)},
			{"the archive of binary logs", binlogCluster(c, nil)},
			{"drills", drillSettings(c)},
		}
	}
	return out
}

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }
