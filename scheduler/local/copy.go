package local

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"
)

// dumpOptions make the dump of a primary that a replica begins with: at one moment, without locks on InnoDB tables, with
// the GTID position of that moment at the end. Events come with the rows of mysql.event: made by statement they would
// begin to fire while the load goes on.
var dumpOptions = []string{
	"--single-transaction", "--quick", "--master-data=2", "--gtid", "--all-databases", "--routines", "--events", "--triggers",
	"--hex-blob", "--default-character-set=utf8mb4", "--max-allowed-packet=1G", "--ignore-database=" + jobsSchema,
}

// fromPrimary is the feed of task reseedlogicalmaster: the primary's dump, straight into the server's client.
type fromPrimary struct {
	r      *reseed
	dump   *program
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
	file, err := f.r.desk.optionFile("primary", f.r.primary, c.User, c.Password)
	if err != nil {
		return err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	f.pipe, f.from = out, bufio.NewReaderSize(patient{out, c.Lease}, copyBuffer)
	ctx, f.cancel = context.WithCancel(ctx)
	f.dump, err = f.r.startProgram(ctx, f.r.desk.dir, cmp.Or(c.DumpTool, "mariadb-dump"), append([]string{"--defaults-file=" + file}, dumpOptions...), nil, in)
	_ = in.Close() // the dump has its own copy
	if err != nil {
		return err
	}
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
	if ended := f.dump.wait(); ended != nil {
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
	tail, err := l.take(f.from)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = f.broken(err)
		}
		return "", l.abort(err)
	}
	if err := f.dump.wait(); err != nil {
		return "", l.abort(err)
	}
	gtid, err := tail.position()
	if err != nil {
		return "", l.abort(fmt.Errorf("dump of %s: %w", f.r.primary, err))
	}
	return gtid, l.finish()
}

func (f *fromPrimary) close() {
	f.cancel()
	if f.dump != nil {
		<-f.dump.done
	}
	if f.pipe != nil {
		_ = f.pipe.Close() // closing twice does nothing
	}
}

func (f *fromPrimary) exit() (codes []int) {
	for _, t := range []*program{f.dump, f.loader} {
		if t != nil {
			codes = append(codes, t.status)
		}
	}
	return codes
}

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
	file, err := r.desk.optionFile("server", r.job.Server, c.User, c.Password)
	if err != nil {
		return nil, err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	t, err := r.startProgram(ctx, r.desk.dir, cmp.Or(c.ClientTool, "mariadb"), []string{
		"--defaults-file=" + file, "--batch", "--binary-mode", "--default-character-set=utf8mb4", "--max-allowed-packet=1G",
		"--skip-reconnect", "--init-command=" + loaderInit,
	}, out, io.Discard)
	_ = out.Close() // the client has its own copy
	if err != nil {
		cancel()
		_ = in.Close()
		return nil, err
	}
	return &loader{program: t, work: r.work, in: in, cancel: cancel}, nil
}

// take gives everything from to the client and keeps the end of it. An error of reading is returned as it is; one of
// writing means that the client has ended, which it explains itself.
func (l *loader) take(from io.Reader) (tail, error) {
	end, buf := tail{}, make([]byte, copyBuffer)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			end.add(buf[:n])
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

// tail is the end of a stream.
type tail struct{ text []byte }

const tailKept = 64 << 10

func (t *tail) add(p []byte) {
	if len(p) >= tailKept {
		t.text = append(t.text[:0], p[len(p)-tailKept:]...)
		return
	}
	t.text = append(t.text, p...)
	if over := len(t.text) - tailKept; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
}

// dumpEnd is the last line of mariadb-dump and mysqldump; without it the dump is not whole.
const dumpEnd = "\n-- Dump completed"

var dumpPosition = regexp.MustCompile(`(?m)^(?:-- )?SET GLOBAL gtid_slave_pos='([0-9,-]*)';$`)

// errCutDump is a dump without its end marker.
var errCutDump = errors.New(`it does not end with "-- Dump completed"`)

// position reads the GTID position out of the end of a dump. It fails for a dump that is not whole.
func (t tail) position() (string, error) {
	text := string(t.text)
	i := strings.LastIndex(text, dumpEnd)
	if i < 0 || strings.Contains(strings.TrimRight(text[i+1:], "\n"), "\n") {
		return "", errCutDump
	}
	found := dumpPosition.FindAllStringSubmatch(text[:i+1], -1)
	if len(found) == 0 {
		return "", errors.New("it has no GTID position")
	}
	return found[len(found)-1][1], nil
}
