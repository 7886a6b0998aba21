package sshrun

import (
	"context"
	"fmt"
	"strings"
	"time"

	"drydock/job"
)

// look prints the commands that the built-in script needs and the host does not have.
const look = `for t in openssl socat flock timeout md5sum sha256sum od dd stat awk find; do
	type -P "$t" >/dev/null || printf 'missing %s\n' "$t"
done
exit 0
`

// Probe logs in to the host of a server and changes nothing there. Errors: [Hinted], with advice, where there is any.
func Probe(ctx context.Context, c Cluster, s job.Server) error {
	if _, err := c.script(); err != nil {
		return err
	}
	h := host{s.Host, c.Login.Port}
	client, err := dial(ctx, h, c.Login)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	until, stop := within(ctx, time.Minute)
	defer stop()
	res, err := run(ctx, until, client, order{command: command, input: []byte(look), secrets: []string{c.Login.Password}})
	switch {
	case err != nil:
		return err
	case res.exit == 127:
		return &Hinted{fmt.Errorf("run bash on %s: %s", h, lastLines(res.output, 1)), "install bash there"}
	case res.exit != 0:
		return fmt.Errorf("run bash on %s: exit status %d: %s", h, res.exit, lastLines(res.output, 1))
	}
	if missing := missingTools(res.output); c.Script == "" && len(missing) > 0 {
		return &Hinted{fmt.Errorf("the script finds no %s on %s", strings.Join(missing, ", "), h), "install them there"}
	}
	return nil
}

// missingTools reads what look printed; start-up files of the shell may have printed more.
func missingTools(output string) (names []string) {
	for line := range strings.Lines(output) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "missing "); ok {
			names = append(names, name)
		}
	}
	return names
}
