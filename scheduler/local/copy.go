package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"drydock/dump"
)

// dumpOptions make the dump of a primary that a replica begins with: at one moment, without locks on InnoDB tables, with
// the GTID position of that moment at the end.
var dumpOptions = []string{
	"--single-transaction", "--quick", "--master-data=2", "--gtid", "--all-databases", "--routines", "--events", "--triggers",
	"--hex-blob", "--default-character-set=utf8mb4", "--max-allowed-packet=1G", "--ignore-database=" + jobsSchema,
}

// fromPrimary is the feed of task reseedlogicalmaster: the primary's dump, straight into the server's client.
type fromPrimary struct {
	r      *reseed
	dumper *program
	cancel context.CancelFunc
	pipe   *os.File
	from   *bufio.Reader
	loader *program
}

func (w *work) reseedFromPrimary(ctx context.Context) (outcome, error) {
	return w.reseedFrom(ctx, func(r *reseed) (feed, error) { return &fromPrimary{r: r, cancel: func() {}}, nil })
}

func (f *fromPrimary) name() string { return "a dump of the primary " + f.r.primary.String() }

func (f *fromPrimary) open(ctx context.Context) error {
	c := f.r.cluster
	path, err := c.Mysqldump.Find("backup-mysqldump-path", "mariadb-dump", "mysqldump")
	if err != nil {
		return err
	}
	file := filepath.Join(f.r.desk, "primary.cnf")
	if err := writeOptionFile(file, f.r.primary.Host, f.r.primary.Port, c.User, c.Password); err != nil {
		return err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	f.pipe, f.from = out, bufio.NewReaderSize(patient{out, c.Lease}, copyBuffer)
	ctx, f.cancel = context.WithCancel(ctx)
	args := append([]string{"--defaults-file=" + file}, dumpOptions...)
	f.dumper = begin(ctx, run{path: path, args: args, dir: f.r.desk, out: in, lines: f.r.lines, secret: c.Password}, nil, func() { _ = in.Close() })
	if _, err := f.from.Peek(1); err != nil {
		return f.broken(err)
	}
	return nil
}

// broken says why the dump gave no more: it ended, and says so itself, or it stalled.
func (f *fromPrimary) broken(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the dump of %s sent nothing for %s", f.r.primary, f.r.cluster.Lease)
	}
	if ended := f.dumper.wait(); ended != nil {
		return ended
	}
	return errors.New("the dump is empty")
}

func (f *fromPrimary) load(ctx context.Context) (string, error) {
	l, err := f.r.startLoader(ctx)
	if err != nil {
		return "", err
	}
	f.loader = l.program
	text, err := l.take(f.from)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = f.broken(err)
		}
		return "", l.abort(err)
	}
	if err := f.dumper.wait(); err != nil {
		return "", l.abort(err)
	}
	gtid, err := endPosition(text)
	if err != nil {
		return "", l.abort(fmt.Errorf("dump of %s: %w", f.r.primary, err))
	}
	return gtid, l.finish()
}

func (f *fromPrimary) close() {
	f.cancel()
	if f.pipe != nil {
		_ = f.pipe.Close() // before the wait: what nobody reads any more would hold the dump up. Twice does nothing
	}
	if f.dumper != nil {
		<-f.dumper.done
	}
}

func (f *fromPrimary) exit() []int { return statuses(f.dumper, f.loader) }

func (f *fromPrimary) tool() string { return "mariadb-dump, mariadb" }

// patient reads from a pipe and gives up when nothing comes for a time.
type patient struct {
	pipe *os.File
	idle time.Duration
}

func (p patient) Read(b []byte) (int, error) {
	if err := p.pipe.SetReadDeadline(time.Now().Add(p.idle)); err != nil {
		return 0, err
	}
	return p.pipe.Read(b)
}

const copyBuffer = 256 << 10

// loader is the client program that gives SQL to the server.
type loader struct {
	*program
	work   *work
	in     *os.File
	cancel context.CancelFunc
}

// startLoader starts the client. It ends at the first error of the server, or when all was given.
func (r *reseed) startLoader(ctx context.Context) (*loader, error) {
	c := r.cluster
	path, err := Tool{Path: c.ClientTool}.Find("backup-mysqlclient-path", "mariadb", "mysql")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(r.desk, "server.cnf")
	if err := writeOptionFile(file, r.job.Server.Host, r.job.Server.Port, c.User, c.Password); err != nil {
		return nil, err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	p := begin(ctx, run{path: path, dir: r.desk, lines: r.lines, secret: c.Password, args: []string{
		"--defaults-file=" + file, "--batch", "--binary-mode", "--default-character-set=utf8mb4", "--max-allowed-packet=1G",
		"--skip-reconnect", "--init-command=" + loaderInit,
	}}, out, func() {})
	return &loader{program: p, work: r.work, in: in, cancel: cancel}, nil
}

// take gives everything in from to the client and reads along. An error of reading is returned as it is; one of
// writing means that the client has ended, which it explains itself.
func (l *loader) take(from io.Reader) (*dump.SQL, error) {
	end, buf := new(dump.SQL), make([]byte, copyBuffer)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			_, _ = end.Write(buf[:n]) // never fails
			if _, err := l.in.Write(buf[:n]); err != nil {
				return end, fmt.Errorf("give the dump to the client: %w", err)
			}
			l.work.moved.Add(int64(n))
		}
		if errors.Is(err, io.EOF) {
			return end, nil
		}
		if err != nil {
			return end, err
		}
	}
}

// finish lets the client do what it has and waits for its end.
func (l *loader) finish() error {
	defer l.cancel()
	if err := l.in.Close(); err != nil {
		return l.abort(err)
	}
	return l.wait()
}

// abort ends the client at once: at an ordinary end of its input it would still execute a statement that came in part.
// The reason is why, unless the client ended by itself before.
func (l *loader) abort(why error) error {
	if errors.Is(why, syscall.EPIPE) { // both ends of the pipe are closed only once it has ended
		<-l.done
	}
	select {
	case <-l.done:
		if err := l.wait(); err != nil {
			why = err
		}
	default:
	}
	l.cancel()
	<-l.done
	_ = l.in.Close()
	return why
}

// endPosition is where a dump that has gone by stands. It fails for one that is not whole, or does not say. Errors:
// [dump.ErrTruncated].
func endPosition(text *dump.SQL) (string, error) {
	if err := text.Close(); err != nil {
		return "", err
	}
	p := text.Position()
	if p.IsZero() {
		return "", errors.New("it has no position in the binary log")
	}
	return p.GTID, nil // empty when nothing was ever logged
}
