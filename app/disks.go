package app

import (
	"context"
	"fmt"
	"time"

	"drydock/bus"
	"drydock/config"
)

// soonFull is how long before a disk is full the check warns of it.
const soonFull = 14 * 24 * time.Hour

// checkDisks asks the receivers that run how full their disks are, and when they will be.
func checkDisks(ctx context.Context, cfg *config.Config) (items []Item) {
	conn, err := Dial(ctx, cfg, quietLog())
	if err != nil {
		return nil // checkBus has said so
	}
	defer conn.NC.Close()
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	names, err := bus.Receivers(ctx, conn)
	if err != nil {
		return []Item{{Warn, "receivers", err.Error(), ""}}
	}
	for _, name := range names {
		d, err := bus.Request[bus.DiskReply](ctx, conn, bus.ReceiverSubject(name, bus.VerbDisk), struct{}{})
		if err != nil {
			items = append(items, Item{Warn, "receiver " + name, err.Error(), "see the log of that receiver"})
			continue
		}
		items = append(items, diskItem(d))
	}
	return items
}

func diskItem(d bus.DiskReply) Item {
	it := Item{OK, "receiver " + d.Receiver, fmt.Sprintf("%s: %d of %d MiB free, %s", d.Folder, d.Free>>20, d.Total>>20, d.Outlook), ""}
	if d.Full && time.Duration(d.FullIn*float64(time.Second)) < soonFull {
		it.Status, it.Hint = Warn, "keep fewer backups (backup-keep keys, `drydock backups prune`), or give the disk more room"
	}
	return it
}
