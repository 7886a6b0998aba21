package sshrun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	loginTimeout = 20 * time.Second // to connect, and again to log in
	aliveEvery   = 15 * time.Second
	aliveWithin  = 45 * time.Second // without an answer for so long the connection counts as dead
)

// dial connects and logs in. The connection ends with ctx. Errors: [ErrHostKey]; [Hinted] where there is advice.
func dial(ctx context.Context, h host, l Login) (*ssh.Client, error) {
	cfg, err := l.clientConfig(h)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: loginTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", h.String())
	if err != nil {
		return nil, &Hinted{fmt.Errorf("connect: %w", err), "does sshd listen there (onpremise-ssh-port), and does a firewall let this host in?"}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(loginTimeout))
	c, chans, reqs, err := ssh.NewClientConn(conn, h.String(), cfg)
	if err != nil {
		stop()
		_ = conn.Close()
		return nil, l.loginError(ctx, h, err)
	}
	_ = conn.SetDeadline(time.Time{}) // from here on keepAlive notices a dead peer
	return ssh.NewClient(c, chans, reqs), nil
}

// loginError finds what a person can do about a failed login.
func (l Login) loginError(ctx context.Context, h host, err error) error {
	var hinted *Hinted
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("log in to %s: %w", h, ctx.Err())
	case errors.As(err, &hinted):
		return hinted // the host key: what the library wraps around it says nothing more
	case strings.Contains(err.Error(), "unable to authenticate"): // the library has no error of its own for it
		return &Hinted{
			fmt.Errorf("log in to %s as %s: %w", h, l.User, err),
			"is the public half of onpremise-ssh-private-key in that user's authorized_keys, or the password of onpremise-ssh-credential right?",
		}
	case strings.Contains(err.Error(), "no common algorithm for host key"):
		return &Hinted{
			fmt.Errorf("%w: %s shows no key of a kind that onpremise-ssh-known-hosts has for it: %w", ErrHostKey, h, err),
			"if the host was installed anew, replace its lines in that file",
		}
	}
	return fmt.Errorf("log in to %s: %w", h, err)
}

func (l Login) clientConfig(h host) (*ssh.ClientConfig, error) {
	file, err := l.knownHosts()
	if err != nil {
		return nil, err
	}
	keys, err := readHostKeys(file)
	if err != nil {
		return nil, err
	}
	methods, err := l.methods()
	if err != nil {
		return nil, err
	}
	return &ssh.ClientConfig{
		User: l.User, Auth: methods, HostKeyCallback: keys.callback(h), HostKeyAlgorithms: keys.algorithms(h),
		ClientVersion: "SSH-2.0-drydock",
	}, nil
}

// methods are the key, and the password in both ways in which servers ask for it.
func (l Login) methods() (out []ssh.AuthMethod, err error) {
	if l.KeyFile != "" {
		signer, err := readKey(l.KeyFile)
		if err != nil {
			return nil, err
		}
		out = append(out, ssh.PublicKeys(signer))
	}
	if l.Password != "" {
		out = append(out, ssh.Password(l.Password), ssh.KeyboardInteractive(l.answer))
	}
	return out, nil
}

// readKey reads the key of onpremise-ssh-private-key. The error holds nothing of it.
func readKey(file string) (ssh.Signer, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read onpremise-ssh-private-key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(text)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return nil, &Hinted{fmt.Errorf("read onpremise-ssh-private-key: %s is protected by a passphrase", file), "give a key of its own to drydock, without one"}
	}
	if err != nil {
		return nil, fmt.Errorf("read onpremise-ssh-private-key: %s: %w", file, err)
	}
	return signer, nil
}

// answer gives the password to every question whose answer is not to be seen: the others are not about it.
func (l Login) answer(_, _ string, questions []string, echos []bool) ([]string, error) {
	answers := make([]string, len(questions))
	for i := range questions {
		if !echos[i] {
			answers[i] = l.Password
		}
	}
	return answers, nil
}

// keepAlive asks the host for a sign of life until ctx ends, and closes the connection when none comes.
func keepAlive(ctx context.Context, c *ssh.Client) {
	tick := time.NewTicker(aliveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		dead := time.AfterFunc(aliveWithin, func() { _ = c.Close() })
		_, _, err := c.SendRequest("keepalive@openssh.com", true, nil)
		dead.Stop()
		if err != nil {
			return // the connection is gone, which the session notices by itself
		}
	}
}
