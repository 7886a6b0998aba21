package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// fanoutSQL measures mode sql: the same second, and rows in real tables. Every row of a task that streams has a port of its
// own, so the number of servers is bounded by ports here.
func (b *bench) fanoutSQL(ctx context.Context) error {
	begun := time.Now()
	fmt.Printf("\n### Mode sql: rows in real jobs tables\n\n")
	fmt.Println("Every entry has its own table and every row its own port; the tables were there before.")
	fmt.Println("\n| servers | last created, s | last of the rows that need not wait, s | rows/s | CPU of drydock until then, s | of the MariaDB servers, s | peak memory, MiB |")
	fmt.Println("|---|---|---|---|---|---|---|")
	for _, n := range b.sql {
		left := b.bound - time.Since(begun)
		if left < 0 {
			fmt.Printf("| %d | not begun: the %s for this part were over |\n", n, b.bound)
			continue
		}
		if err := b.rows(ctx, n, max(left, time.Minute)); err != nil {
			return fmt.Errorf("%d servers: %w", n, err)
		}
	}
	return nil
}

func (b *bench) rows(ctx context.Context, n int, bound time.Duration) (err error) {
	p, err := startProxy(b.ports(n))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := errors.Join(b.prepareAccounts(ctx, n), b.prepareTables(ctx, n, p.port())); err != nil {
		return err
	}
	s, err := b.newSite(ctx, "sql", n, []int{p.port()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := pause(ctx, settleTime(n)); err != nil {
		return err
	}
	w := wave{wantCreated: len(s.due()) * n, wantOffered: len(free) * n}
	if w, err = s.watch(ctx, w, func(task string) bool { return free[task] }, bound); err != nil {
		return err
	}
	// A job is `available` when its row is in, and says so. That it is there the table must say itself.
	there, err := b.rowsIn(ctx, n)
	if err != nil {
		return err
	}
	if there < w.offered {
		return fmt.Errorf("%d jobs are said to be offered, and there are %d rows", w.offered, there)
	}
	fmt.Printf("| %d | %s | %s | %.0f | %.1f | %.1f | %.0f |\n", n, reached(w.created, w.wantCreated, w.lastCreated),
		reached(w.offered, w.wantOffered, w.lastOffered), float64(w.offered)/w.lastOffered.Seconds(), w.cpu.Seconds(), w.dbCPU.Seconds(), mib(w.peak))
	return nil
}
