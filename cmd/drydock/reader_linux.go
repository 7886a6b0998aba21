package main

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// whileRead is ctx as long as somebody reads what is written to w: `drydock tail | head -1` ends with head and not at the
// next line, which may come tomorrow. Where w is no pipe it is ctx. stop ends the watch and waits for it.
func whileRead(ctx context.Context, w io.Writer) (reading context.Context, stop func()) {
	reading, cancel := context.WithCancel(ctx)
	file, ok := w.(*os.File)
	if !ok {
		return reading, cancel
	}
	if info, err := file.Stat(); err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return reading, cancel
	}
	wake, end, err := os.Pipe() // closing its end ends the poll
	if err != nil {
		return reading, cancel // it ends at the next line
	}
	watched := make(chan struct{}) // closed by the watch when it is over
	go func() {
		defer close(watched)
		if readerGone(int(file.Fd()), int(wake.Fd())) {
			cancel()
		}
	}()
	return reading, func() {
		cancel()
		_ = end.Close()
		<-watched
		_ = wake.Close()
	}
}

// readerGone waits until nobody reads from the pipe or socket any more (true), or until the other end of wake is closed.
func readerGone(pipe, wake int) bool {
	fds := []unix.PollFd{{Fd: int32(pipe)}, {Fd: int32(wake)}} // of both only that they are hung up
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return false
		default:
			return fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
		}
	}
}
