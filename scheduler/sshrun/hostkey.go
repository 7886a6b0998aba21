package sshrun

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"drydock/scripts"
)

// Hinted is an error with advice on what to do about it.
type Hinted struct {
	Err  error
	Hint string
}

// Error is the error's text with the advice.
func (h *Hinted) Error() string { return h.Err.Error() + "; " + h.Hint }

// Unwrap is the error itself.
func (h *Hinted) Unwrap() error { return h.Err }

// ErrHostKey is in the chain of every refusal of a host's key.
var ErrHostKey = errors.New("host key refused")

// hostKeys is the file of known hosts, read at every login so that an added host needs no restart.
type hostKeys struct {
	file  string
	check ssh.HostKeyCallback
}

func readHostKeys(file string) (hostKeys, error) {
	check, err := knownhosts.New(file)
	if errors.Is(err, fs.ErrNotExist) { // then every host is unknown, which is what the message should say
		check, err = knownhosts.New()
	}
	if err != nil {
		return hostKeys{}, fmt.Errorf("read onpremise-ssh-known-hosts: %w", err)
	}
	return hostKeys{file, check}, nil
}

// algorithms are those of the keys known for a host, nil for an unknown one. Left to itself, client and server would
// agree on the kind of key they like best, which need not be the kind that is known.
func (k hostKeys) algorithms(h host) []string {
	var known *knownhosts.KeyError
	nobody, err := ssh.NewPublicKey(ed25519.PublicKey(make([]byte, ed25519.PublicKeySize)))
	if err != nil || !errors.As(k.check(h.String(), &net.TCPAddr{}, nobody), &known) {
		return nil
	}
	var out []string
	for _, w := range known.Want {
		kinds := []string{w.Key.Type()}
		if kinds[0] == ssh.KeyAlgoRSA {
			kinds = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
		}
		for _, a := range kinds {
			if !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}

// callback judges the key that the host shows.
func (k hostKeys) callback(h host) ssh.HostKeyCallback {
	return func(address string, remote net.Addr, key ssh.PublicKey) error {
		err := k.check(address, remote, key)
		var other *knownhosts.KeyError
		if err == nil || !errors.As(err, &other) {
			return err
		}
		shown := fmt.Sprintf("%s key of %s, %s,", key.Type(), h, ssh.FingerprintSHA256(key))
		if len(other.Want) == 0 {
			return &Hinted{
				fmt.Errorf("%w: the %s is not in %s", ErrHostKey, shown, k.file),
				fmt.Sprintf("compare the fingerprint on the host (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub), then: ssh-keyscan -p %d %s >> %s", h.port, h.name, word(k.file)),
			}
		}
		w := other.Want[0]
		return &Hinted{
			fmt.Errorf("%w: the %s is not the one in %s line %d, %s", ErrHostKey, shown, w.Filename, w.Line, ssh.FingerprintSHA256(w.Key)),
			fmt.Sprintf("somebody may be in between; only if the host was installed anew: ssh-keygen -R '%s' -f %s, then ssh-keyscan -p %d %s >> %s",
				knownhosts.Normalize(h.String()), word(k.file), h.port, h.name, word(k.file)),
		}
	}
}

// word is a path as one types it in a shell.
func word(path string) string {
	if strings.ContainsAny(path, " \t'\"\\$`&;()<>|*?[#~!") {
		return scripts.Quote(path)
	}
	return path
}
