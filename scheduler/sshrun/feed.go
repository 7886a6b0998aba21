package sshrun

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"slices"

	"drydock/job"
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

// Environment is the block of maintenance.txt section 6.1.5, and what drydock's own script reads besides.
func (c Config) Environment(cl Cluster, server job.Server) []scripts.Variable {
	index := max(0, slices.Index(cl.Servers, server))
	return scripts.Host{
		APIHost: c.APIHost, APIPort: c.APIPort, APIUser: c.APIUser, APIPassword: c.APIPassword, Cluster: cl.Name,
		Server: server.Host, Port: server.Port, User: cl.User, Password: cl.Password,
		ReceiverPort: cl.ReceiverPorts[index%len(cl.ReceiverPorts)],
	}.Environment()
}

// secrets are the values that must not be repeated in a log.
func (c Config) secrets(cl Cluster) []string {
	return []string{cl.Password, c.APIPassword, cl.Login.Password}
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
	return ReadScript("onpremise-ssh-db-job-script", c.Script)
}

// ReadScript reads the user's script that a key names.
func ReadScript(key, file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxScript {
		return nil, fmt.Errorf("read %s: %s is not a file of at most %d bytes", key, file, maxScript)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	if bytes.IndexByte(data, 0) >= 0 {
		return nil, fmt.Errorf("read %s: it holds a zero byte; it has to be a bash script", key)
	}
	return data, nil
}
