package sshrun

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"drydock/scripts"
)

// command is what runs on the host, in the login shell of the SSH user. It holds nothing of the configuration.
const command = "bash -s -- --once"

// notWhole is the exit status of a host that got only part of its input.
const notWhole = 120

// pidMark stands before the process id of the remote shell in what it prints.
const pidMark = "_drydock_pid="

// maxScript bounds a custom script, so that a wrong path cannot fill the memory.
const maxScript = 4 << 20

// environment is what the script of a target is given.
func (c Config) environment(t target) []scripts.Variable {
	return scripts.Host{
		APIHost: c.APIHost, APIPort: c.APIPort, APIUser: c.APIUser, APIPassword: c.APIPassword, Cluster: t.cluster.Name,
		Server: t.server.Host, Port: t.server.Port, User: t.cluster.User, Password: t.cluster.Password,
		ReceiverPort: t.cluster.ReceiverPorts[t.index%len(t.cluster.ReceiverPorts)],
	}.Environment()
}

// secrets are the values that must not be repeated in a log.
func (c Config) secrets(t target) []string {
	return []string{t.cluster.Password, c.APIPassword, t.cluster.Login.Password}
}

// load puts the script into a variable and runs it from there, with an empty standard input. Fed plainly, a command of
// the script that reads its standard input would swallow the rest of the script; and half a script, after a cut
// connection, would be run. It is one compound command because the shell reads its input line by line, and all that
// follows its line belongs to the script. %[1]s is the mark that ends the input. The shell says its process id first, by
// which it can be stopped; and when drydock is gone it must not die of a line that nobody reads any more (a trap, unlike
// an ignored signal, is not inherited by the commands it runs).
const load = `{ trap : PIPE; echo "` + pidMark + `$$"; _drydock_script=$(cat); [[ $_drydock_script == *%[1]s ]] || ` +
	`{ echo 'the script did not arrive whole' >&2; exit %[2]d; }; eval "$_drydock_script" </dev/null; exit $?; }` + "\n"

// feed is the whole standard input of the remote shell: environment block, loader, script, mark.
func feed(env []scripts.Variable, script []byte) ([]byte, error) {
	exports, err := scripts.Exports(env)
	if err != nil {
		return nil, err
	}
	b := bytes.NewBuffer(exports)
	var random [8]byte
	rand.Read(random[:])
	mark := "_drydock_end_" + hex.EncodeToString(random[:])
	fmt.Fprintf(b, load, mark, notWhole)
	b.Write(script)
	b.WriteString("\n# " + mark)
	return b.Bytes(), nil
}

// script is what the cluster's hosts run.
func (c Cluster) script() ([]byte, error) {
	if c.Script == "" {
		return scripts.Script(), nil
	}
	info, err := os.Stat(c.Script)
	if err != nil {
		return nil, fmt.Errorf("read onpremise-ssh-db-job-script: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxScript {
		return nil, fmt.Errorf("read onpremise-ssh-db-job-script: %s is not a file of at most %d bytes", c.Script, maxScript)
	}
	data, err := os.ReadFile(c.Script)
	if err != nil {
		return nil, fmt.Errorf("read onpremise-ssh-db-job-script: %w", err)
	}
	if bytes.IndexByte(data, 0) >= 0 {
		return nil, errors.New("read onpremise-ssh-db-job-script: it holds a zero byte; it has to be a bash script")
	}
	return data, nil
}
