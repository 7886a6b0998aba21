package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// program is a [run] in the background.
type program struct {
	done chan struct{} // closed once it has ended; nothing below is read before
	code int
	err  error
}

// begin starts a program. in is its standard input, closed when it ends: who still writes to it learns of the end.
// ended is called then, too.
func begin(ctx context.Context, r run, in *os.File, ended func()) *program {
	p := &program{done: make(chan struct{})}
	r.in = in
	go func() {
		defer close(p.done)
		p.code, p.err = r.do(ctx)
		if in != nil {
			_ = in.Close()
		}
		ended()
	}()
	return p
}

func (p *program) wait() error {
	<-p.done
	return p.err
}

// statuses are the exit statuses of those programs that were begun.
func statuses(programs ...*program) (out []int) {
	for _, p := range programs {
		if p != nil {
			<-p.done
			out = append(out, p.code)
		}
	}
	return out
}

// newDesk makes the folder for the option files and unpacked files of the job; it goes when the job has ended.
func (w *work) newDesk() (dir string, err error) {
	space, err := w.workspace()
	if err != nil {
		return "", err
	}
	dir, remove, err := space.folder(w.job.Run())
	if err != nil {
		return "", err
	}
	w.after = append(w.after, func() {
		if err := remove(); err != nil {
			w.log.Warn("remove the folder of a job", "job", w.job, "err", err)
		}
	})
	if dir, err = filepath.Abs(dir); err != nil {
		return "", fmt.Errorf("find the folder of the job: %w", err)
	}
	return dir, nil
}
