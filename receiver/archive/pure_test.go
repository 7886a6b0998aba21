package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"drydock/job"
	"drydock/store"
)

func TestSecretsAreTakenOutOfEveryText(t *testing.T) {
	t.Parallel()
	r := Repository{
		Location: "rest:https://u:url%2Fpass@backup.example/prod/", Password: password, AWSKey: "AKIA", AWSSecret: "aws/secret",
	}
	x := restic{r}
	err := x.failure("backup", errors.New("exit status 1"), "Fatal: "+password+" aws/secret u:url%2Fpass@ aws%2Fsecret")
	for _, secret := range []string{password, "aws/secret", "url%2Fpass", "aws%2Fsecret"} {
		if strings.Contains(err.Error(), secret) || strings.Contains(r.Shown(), secret) {
			t.Errorf("%q stands in %q or %q", secret, err, r.Shown())
		}
	}
	if r.Shown() != "rest:https://u:***@backup.example/prod/" {
		t.Errorf("shown as %s", r.Shown())
	}
}

func TestEnvironmentOfResticHasWhatItNeedsAndNoMore(t *testing.T) {
	t.Setenv("DRYDOCK_DB_PASSWORD", "hunter2")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "somebody else's")
	env := Repository{Location: "/srv/r", Password: "p", CacheDir: "/c"}.environ()
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		if !slices.Contains(passedOn, name) && !strings.HasPrefix(name, "RESTIC_") {
			t.Errorf("restic gets %s", name)
		}
	}
	if !slices.Contains(env, "RESTIC_PASSWORD=p") || !slices.Contains(env, "RESTIC_REPOSITORY=/srv/r") {
		t.Errorf("environment %v", env)
	}
	if env = (Repository{AWSKey: "k", AWSSecret: "s"}).environ(); !slices.Contains(env, "AWS_SECRET_ACCESS_KEY=s") {
		t.Errorf("environment %v", env)
	}
}

func TestWhatResticSaysIsUnderstood(t *testing.T) {
	t.Parallel()
	const where = "\nIs there a repository at the following location?\n"
	for said, want := range map[string]error{
		"Fatal: unable to open config file: stat /r/config: no such file or directory" + where + "/r":                    errAbsent,
		"Fatal: unable to open config file: Stat: The specified key does not exist." + where + "s3:x":                    errAbsent,
		"Fatal: unable to open config file: client.Head: dial tcp 10.0.0.1:80: connect: connection refused" + where + "": nil,
		"Fatal: unable to open config file: lstat /r/config: permission denied" + where + "/r":                           nil,
		"Fatal: unable to open config file: <config/> does not exist" + where + "rest:https://h/":                        errAbsent,
		"ssh: /root/.ssh/id: no such file or directory\nFatal: unable to open config file: EOF" + where + "sftp:h:/r":    nil,
		"Fatal: wrong password or no key found":                                                                          nil,
		"unable to create lock in backend: repository is already locked exclusively by PID 12 on h by root":              errLocked,
		"Fatal: create repository at /r failed: config file already exists":                                              errExists,
	} {
		err := restic{}.failure("x", errors.New("exit status 1"), said)
		for _, kind := range []error{errAbsent, errLocked, errExists, errIncomplete} {
			if errors.Is(err, kind) != (kind == want) {
				t.Errorf("%q is taken for %v", said, err)
			}
		}
	}
}

func TestOrdersAreNotRepeatedWithoutEnd(t *testing.T) {
	t.Parallel()
	now := time.Now()
	r := &Worker{orders: map[string]order{}, up: now}
	m := store.Manifest{ID: "B"}
	count := 0
	for at := now; at.Before(now.Add(24 * time.Hour)); at = at.Add(time.Second) {
		if r.due(m, job.Job{}, at) {
			count++
		}
	}
	if count < 24 || count > 30 { // a cluster that is closed skips each of them
		t.Errorf("%d orders in a day", count)
	}
	of := func(state job.State, since time.Time) job.Job {
		return job.Job{State: state, Since: since, Args: map[string]string{argBackup: "B"}}
	}
	for _, c := range []struct {
		last job.Job
		want time.Duration
	}{
		{of(job.Halted, now.Add(-time.Minute)), 0}, // before this process started
		{of(job.Halted, now.Add(time.Second)), failedAgain + time.Second},
		{of(job.Canceled, now.Add(-time.Minute)), canceledAgain - time.Minute},
	} {
		r.orders = map[string]order{}
		if c.want > 0 && r.due(m, c.last, now.Add(c.want-time.Second)) || !r.due(m, c.last, now.Add(c.want)) {
			t.Errorf("after %s at %s: not ordered %s later", c.last.State, c.last.Since, c.want)
		}
	}
	r.orders, r.fresh = map[string]order{}, map[place]bool{}
	if !r.due(m, job.Job{}, now) || r.due(m, job.Job{}, now) {
		t.Error("the first order is not given, or given twice")
	}
	if r.notOrdered(m, now); !r.due(m, job.Job{}, now) || r.orders["B"].times != 1 {
		t.Errorf("an order that the bus did not take is waited for: %+v", r.orders["B"])
	}
	refused := 0 // each is a line in drydock's log, and a look is every other second
	for at := now; at.Before(now.Add(time.Hour)); at = at.Add(2 * time.Second) {
		if r.due(m, job.Job{}, at) {
			refused++
			r.notOrdered(m, at)
		}
	}
	if refused < 12 || refused > 24 {
		t.Errorf("an order that the bus never takes is given %d times in an hour", refused)
	}
}

func TestWhoWantsTheRepositoryForItselfWaitsForTheOthers(t *testing.T) {
	t.Parallel()
	turns, nobody := newTurns(), func() { t.Error("waited for nothing") }
	a, err := turns.enter(t.Context(), false, nobody)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := turns.enter(ctx, true, cancel); err == nil { // gives back what it had
		t.Error("two work on a repository that one wants for itself")
	}
	b, err := turns.enter(t.Context(), false, nobody)
	if err != nil {
		t.Fatal(err)
	}
	a()
	b()
	alone, err := turns.enter(t.Context(), true, nobody)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	if _, err := turns.enter(ctx, false, cancel); err == nil {
		t.Error("somebody works beside the one that is alone")
	}
	alone()
}

func TestAListOfThousandsOfSnapshotsIsRead(t *testing.T) {
	t.Parallel()
	const n = 5000 // restic writes them as one line, of some megabytes here
	binary := filepath.Join(t.TempDir(), "restic")
	script := `#!/bin/sh
printf '['
i=0
while [ $i -lt ` + fmt.Sprint(n) + ` ]; do
	printf '{"id":"%064d","paths":["/var/lib/drydock/Backups/lab/10.0.1.5_3306/mariabackup-20261122T010000Z.xbstream",` +
		`"/var/lib/drydock/Backups/lab/10.0.1.5_3306/mariabackup-20261122T010000Z.xbstream.manifest.json"],"tags":["drydock"]},' $i
	i=$((i + 1))
done
printf '{"id":"last","tags":["drydock"]}]\n'
`
	if err := os.WriteFile(binary, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	x := restic{Repository{Binary: binary}}
	list, err := x.snapshots(context.Background(), "drydock")
	if err != nil || len(list) != n+1 || list[n].ID != "last" {
		t.Errorf("%d snapshots, %v", len(list), err)
	}
}
