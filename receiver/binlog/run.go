package binlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"drydock/receiver/recovery"
)

// Target is the server that a replay goes to.
type Target struct {
	Socket   string // or Host and Port
	Host     string
	Port     int
	User     string
	Password string
	// NoLog keeps the replay out of the server's own binary log.
	NoLog bool
	// Client and Decoder are the programs mariadb and mariadb-binlog. Optional.
	Client, Decoder string
}

// option is one line of an option file of the clients, quoted for any value.
func option(name, value string) string {
	return name + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`, "\r", `\r`).Replace(value) + "\"\n"
}

// options writes the option file of the client into dir: no password is ever an argument.
func (t Target) options(dir string) (path string, err error) {
	text := "[client]\n" + option("user", t.User) + option("password", t.Password)
	if t.Socket != "" {
		text += option("socket", t.Socket) + "protocol=socket\n"
	} else {
		text += option("host", t.Host) + fmt.Sprintf("port=%d\nprotocol=tcp\n", t.Port)
	}
	path = filepath.Join(dir, "replay.cnf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("write the options of the client: %w", err)
	}
	return path, nil
}

// Run replays the plan on a server that holds the base and nothing else. dir is a private folder for small files; the events
// themselves go through pipes. An error says that the server has got an unknown part of them.
func (p *Plan) Run(ctx context.Context, t Target, dir string) error {
	if p.Transactions == 0 {
		return nil
	}
	conf, err := t.options(dir)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(conf) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	decode := []string{"--no-defaults", "--loose-skip-gtid-strict-mode", "--local-load=" + dir}
	if t.NoLog {
		decode = append(decode, "--disable-log-bin")
	}
	decoder := program(ctx, or(t.Decoder, "mariadb-binlog"), append(decode, "-")...)
	client := program(ctx, or(t.Client, "mariadb"), "--defaults-file="+conf, "--binary-mode", "--batch", "--skip-reconnect", "--max-allowed-packet=1G")
	return errors.Join(p.pipe(ctx, cancel, decoder, client))
}

func or(given, usual string) string {
	if given != "" {
		return given
	}
	return usual
}

// program is a tool that ends with ctx.
func program(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = recovery.Environment()
	cmd.Stderr = new(said)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// said keeps the end of what a program says.
type said struct{ text []byte }

// maxSaid bounds what is shown of it, bytes: a statement may hold a row of a table.
const maxSaid = 400

func (s *said) Write(b []byte) (int, error) {
	s.text = append(s.text, b...)
	s.text = s.text[max(0, len(s.text)-maxSaid):]
	return len(b), nil
}

// pipe runs events | decoder | client and is content only when all three are. A stage that ends early ends the others; the one
// furthest down says why.
func (p *Plan) pipe(ctx context.Context, cancel func(), decoder, client *exec.Cmd) error {
	events, err := decoder.StdinPipe()
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	decoder.Stdout, client.Stdin = write, read
	err = decoder.Start()
	if err == nil {
		if err = client.Start(); err != nil {
			cancel()
			_ = decoder.Wait()
		}
	}
	_, _ = read.Close(), write.Close()
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	ended := make(chan error, 1) // one send
	go func() {
		err := client.Wait()
		if err != nil {
			cancel() // nobody reads the decoder any more
		}
		ended <- err
	}()
	writeErr := p.write(ctx, events)
	closeErr := events.Close()
	if writeErr != nil && !broken(writeErr) {
		cancel() // else what came so far would be taken for all of it
	}
	decodeErr := decoder.Wait()
	if decodeErr != nil {
		cancel()
	}
	clientErr := <-ended
	switch {
	case writeErr != nil && !broken(writeErr) && !errors.Is(writeErr, context.Canceled):
		return fmt.Errorf("replay: %w", writeErr)
	case clientErr != nil && tail(client) != "":
		return fmt.Errorf("replay: %s: %w: %s", client.Path, clientErr, tail(client))
	case decodeErr != nil:
		return fmt.Errorf("replay: %s: %w: %s", decoder.Path, decodeErr, tail(decoder))
	case clientErr != nil:
		return fmt.Errorf("replay: %s: %w", client.Path, clientErr)
	case writeErr != nil:
		return fmt.Errorf("replay: %w", writeErr)
	case closeErr != nil && !errors.Is(closeErr, os.ErrClosed):
		return fmt.Errorf("replay: %w", closeErr)
	}
	return nil
}

func broken(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, os.ErrClosed)
}

func tail(cmd *exec.Cmd) string {
	s, _ := cmd.Stderr.(*said)
	return string(bytes.TrimSpace(s.text))
}
