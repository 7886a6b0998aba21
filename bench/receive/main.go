// Command receive measures how a stream gets to disk: drydock's sink, doing all that a backup is owed (hash, check of the
// format, fsync, rename), against socat with a sync, on a real stream of mariadb-backup and on bytes that do not compress.
// Sides are processes of their own and take turns; the senders are the same for all. TMPDIR says which disk it is about.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"drydock/bench/paired"
	"drydock/receiver/sink"
)

func main() {
	runtime.LockOSThread() // what is started here dies with this thread
	if len(os.Args) > 1 && os.Args[1] == asSink {
		exit(serveSink(os.Args[2:]))
	}
	size := flag.Int64("mib", 1024, "size of each stream, MiB")
	rounds := flag.Int("rounds", 5, "rounds of each comparison")
	bound := flag.Duration("for", 45*time.Second, "how long a comparison may take")
	only := flag.String("only", "", "only the comparisons whose title has this in it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	exit(run(ctx, *size<<20, *rounds, *bound, *only))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "receive:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(ctx context.Context, size int64, rounds int, bound time.Duration, only string) error {
	dir, err := os.MkdirTemp("", "drydock-receive-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Printf("\n## Receiver\n\n%s\n", paired.Machine())
	backup, err := backupStream(ctx, filepath.Join(dir, "backup"), size)
	if err != nil {
		return fmt.Errorf("make a real stream: %w", err)
	}
	noise, err := noiseStream(filepath.Join(dir, "noise"), size)
	if err != nil {
		return err
	}
	b := bench{dir: filepath.Join(dir, "out")}
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		return err
	}
	full := []string{"-hash=" + sink.SHA256, "-check"}
	whole := func(title string, s stream, send sender) paired.Contest {
		sides := []paired.Side{
			b.shell("socat, sync", s, send, "socat -u TCP-LISTEN:$PORT,bind="+loopback+" OPEN:$FILE,creat && sync $FILE"),
			b.sink("sink, sha256", s, send, "-hash="+sink.SHA256),
			b.sink("sink, blake3", s, send, "-hash="+sink.BLAKE3),
		}
		if s.format {
			sides = append(sides, b.sink("sink, sha256, format checked", s, send, full...))
		}
		return paired.Contest{Title: title, Unit: "GiB", Sides: sides}
	}
	part := backup.part(size / 4)
	crowd := backup.part(size / streams)
	for _, c := range []paired.Contest{
		whole(fmt.Sprintf("A real stream of mariadb-backup (%d MiB), fast sender", backup.size>>20), backup, sendFile),
		whole("The same, sent by socat", backup, sendSocat),
		whole(fmt.Sprintf("Bytes that do not compress (%d MiB), fast sender", noise.size>>20), noise, sendFile),
		{Title: fmt.Sprintf("%d streams at once (%d MiB each)", streams, crowd.size>>20), Unit: "GiB", Sides: []paired.Side{
			b.sink("one stream of all, sink, sha256, format checked", backup, sendFile, full...),
			b.sinks("sink, sha256, format checked", crowd, full...),
			b.socats("as many socat, sync", crowd),
		}},
		{Title: fmt.Sprintf("Compressed (the first %d MiB of the real stream)", part.size>>20), Unit: "GiB", Sides: []paired.Side{
			b.shell("socat, zstd -1, sync", part, sendFile, "socat -u TCP-LISTEN:$PORT,bind="+loopback+" STDOUT | zstd -1 -q -c > $FILE && sync $FILE"),
			b.shell("socat, gzip -1, sync", part, sendFile, "socat -u TCP-LISTEN:$PORT,bind="+loopback+" STDOUT | gzip -1 -c > $FILE && sync $FILE"),
			b.sink("sink, zstd, sha256", part, sendFile, "-hash="+sink.SHA256, "-compress="+sink.Zstd),
			b.sink("sink, gzip, sha256", part, sendFile, "-hash="+sink.SHA256, "-compress="+sink.Gzip),
		}},
	} {
		if !strings.Contains(c.Title, only) {
			continue
		}
		outcomes, err := c.Run(ctx, rounds, bound)
		if err != nil {
			return err
		}
		c.Table(os.Stdout, outcomes)
	}
	b.report(os.Stdout)
	return nil
}
