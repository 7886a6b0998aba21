package sshrun

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"drydock/internal/bustest"
)

// passwordServer lets in whoever knows the password, asked for in the given way, and answers every command with the
// bytes it was fed. A real sshd would need PAM and an account for this.
func passwordServer(t *testing.T, interactive bool) (h host, login Login) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &ssh.ServerConfig{}
	cfg.AddHostKey(signer)
	judge := func(password string) (*ssh.Permissions, error) {
		if password == secret {
			return nil, nil
		}
		return nil, errors.New("wrong")
	}
	if interactive {
		cfg.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			answers, err := ask("", "", []string{"Your town? ", "Password: "}, []bool{true, false})
			if err != nil || answers[0] != "" {
				return nil, errors.New("the password was typed where it shows")
			}
			return judge(answers[1])
		}
	} else {
		cfg.PasswordCallback = func(_ ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) { return judge(string(p)) }
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serve(conn, cfg)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	h = host{"127.0.0.1", l.Addr().(*net.TCPAddr).Port}
	file := filepath.Join(t.TempDir(), "known_hosts")
	line := knownhosts.Line([]string{h.String()}, signer.PublicKey())
	if err := os.WriteFile(file, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return h, Login{Port: h.port, User: "deploy", KnownHosts: file}
}

// serve handles one connection with one session to its end.
func serve(conn net.Conn, cfg *ssh.ServerConfig) {
	defer func() { _ = conn.Close() }()
	c, channels, requests, err := ssh.NewServerConn(conn, cfg)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for offered := range channels {
		ch, asked, err := offered.Accept()
		if err != nil {
			return
		}
		for r := range asked {
			_ = r.Reply(true, nil)
			if r.Type == "exec" {
				break
			}
		}
		fed, _ := io.ReadAll(ch)
		_, _ = ch.Write(fed)
		_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{5}))
		_ = ch.Close()
		_ = c.Close()
	}
}

func TestPasswordIsGivenInBothWaysServersAskForIt(t *testing.T) {
	t.Parallel()
	for _, interactive := range []bool{false, true} {
		h, login := passwordServer(t, interactive)
		login.Password = secret
		ctx := bustest.Context(t)
		client, err := dial(ctx, h, login)
		if err != nil {
			t.Errorf("interactive %v: %v", interactive, err)
			continue
		}
		res, err := run(ctx, ctx, client, order{command: command, input: []byte("fed " + secret), secrets: []string{secret}})
		if err != nil || res.exit != 5 || res.output != "fed [secret]" {
			t.Errorf("interactive %v: %+v, %v", interactive, res, err)
		}
		_ = client.Close()

		login.Password = "wrong-geheim"
		_, err = dial(ctx, h, login)
		if err == nil || !strings.Contains(err.Error(), "onpremise-ssh-credential") || strings.Contains(err.Error(), "geheim") {
			t.Errorf("interactive %v, wrong password: %v", interactive, err)
		}
	}
}
