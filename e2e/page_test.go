package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"drydock/internal/pagetest"
	"drydock/job"
)

// steppedTool puts a mariadb-backup in the script's PATH that sends its stream in steps, as files in the folder allow it:
// first 2 MiB, then, with `more`, 4 MiB, then, with `rest`, all of it. With `fail` it says why and fails.
func (h *host) steppedTool(t *testing.T) (allow, forbid func(names ...string)) {
	t.Helper()
	dir := t.TempDir()
	tool := `#!/bin/bash
real=$(PATH=${PATH#*:} command -v mariadb-backup)
case " $* " in *" --backup "*) ;; *) exec "$real" "$@" ;; esac
[ ! -e ` + dir + `/fail ] || { echo "mariabackup: cannot read the log <b>7</b>" >&2; exit 7; }
await() { until [ -e "` + dir + `/$1" ]; do read -rt 0.05 <> <(:) || :; done; }
piece() { dd bs=64K count="$1" iflag=fullblock status=none; }
set -o pipefail
"$real" "$@" | { piece 32; await more; piece 64; await rest; cat; }
`
	for _, name := range []string{"mariadb-backup", "mariabackup"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(tool), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.env = append(h.env, "PATH="+dir+":"+os.Getenv("PATH"))
	allow = func(names ...string) {
		for _, n := range names {
			touch(t, filepath.Join(dir, n))
		}
	}
	forbid = func(names ...string) {
		for _, n := range names {
			if err := os.Remove(filepath.Join(dir, n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return allow, forbid
}

// TestADBAWorksWithThePage: sign in, run a backup, see it move and read its log while it runs, see it succeed; cancel one;
// see without a click why one failed; sign out. All in a real browser, and nothing is loaded again by hand.
func TestADBAWorksWithThePage(t *testing.T) {
	t.Parallel()
	s := newSite(t, options{mode: "api"}).start()
	fill(t, s.servers[0], 20<<20)
	h := s.host(0)
	allow, forbid := h.steppedTool(t)
	h.background("--loop", "1")
	b := pagetest.Open(t, "https://127.0.0.1:"+itoa(s.api), 1200, 900)
	b.Login("admin", "secret")
	b.Until("the fleet", `document.querySelector("#part-clusters").textContent.includes("lab")`)
	addr := s.server().Addr()

	run := func() (id string) {
		b.Go("/maintenance/lab")
		b.Do(
			chromedp.SetValue(chromedp.CSS("form.box select[name=task]"), "mariabackup"),
			chromedp.SetValue(chromedp.CSS("form.box select[name=server]"), addr),
			chromedp.Click(chromedp.CSS("form.box button")),
			chromedp.WaitReady(chromedp.CSS("body.page-jobs #log")),
		)
		return strings.TrimPrefix(pagetest.Get[string](b, "location.pathname"), "/jobs/")
	}
	const moved = `(document.querySelector("#part-progress .meter b") || {textContent: "0 B"}).textContent`
	state := func(want job.State) {
		b.Until("state "+string(want), `document.querySelector("#part-head .st").textContent == "`+string(want)+`"`)
	}

	id := run()
	state(job.Processing)
	b.Until("the first bytes", moved+` != "0 B"`)
	b.Until("the log", `document.querySelectorAll("#log-lines li").length > 0`)
	first, lines := pagetest.Get[string](b, moved), pagetest.Get[int](b, `document.querySelectorAll("#log-lines li").length`)
	allow("more")
	b.Until("more bytes than "+first, moved+` != "`+first+`"`)
	allow("rest")
	state(job.Success)
	b.Until("more of the log", `document.querySelectorAll("#log-lines li").length > `+itoa(lines))
	b.Until("run it again, and no cancel", `!document.querySelector(".only-ended").hidden && document.querySelector(".only-live").hidden`)
	if j := s.awaitEnd(id, "mariabackup"); j.State != job.Success || j.Trigger.By != "admin" {
		t.Errorf("the job is %s, by %s", j.State, j.Trigger.By)
	}

	forbid("more", "rest")
	id = run()
	state(job.Processing)
	b.Do(chromedp.Click(chromedp.CSS(".only-live summary")), chromedp.Click(chromedp.CSS("#do-cancel")))
	b.Until("the word that it was canceled", `document.querySelector(".note") && document.querySelector(".note").textContent == "canceled"`)
	state(job.Canceled)
	if j := s.awaitEnd(id, "mariabackup"); j.State != job.Canceled {
		t.Errorf("the job is %s", j.State)
	}
	allow("more", "rest") // the tool of the canceled job ends, too

	allow("fail")
	run()
	state(job.Halted)
	b.Until("the tool's own words", `document.querySelector("#part-trouble").textContent.includes("cannot read the log <b>7</b>")`)
	b.Go("/")
	b.Until("the failure on the fleet's page", `document.querySelector("#part-numbers .n-failed b").textContent == "1" && document.querySelector("#part-failures").textContent.includes("mariabackup")`)
	b.Until("the condition", `document.querySelector("#part-clusters").textContent.includes("1 error")`)
	b.Go("/backups?cluster=lab")
	if got := pagetest.Get[int](b, `document.querySelectorAll("#part-list tbody tr").length`); got != 1 {
		t.Errorf("the page lists %d backups", got)
	}
	s.lookAtTheBackup(b, state)
	b.Do(chromedp.Click(chromedp.CSS(".me form button")), chromedp.WaitReady(chromedp.CSS("#password")))
	b.Go("/history")
	b.Until("the login", `location.pathname == "/login"`)
}

// lookAtTheBackup has the only backup verified from its page, as it is and with a byte changed, and asks for the plan of a restore.
func (s *site) lookAtTheBackup(b *pagetest.Browser, state func(job.State)) {
	s.t.Helper()
	m := s.manifest("mariabackup")
	verify := func(want job.State, proof string) {
		b.Go("/backups?cluster=lab")
		b.Do(chromedp.Click(chromedp.CSS("#b-"+m.ID)), chromedp.WaitReady(chromedp.CSS("body.page-backup form[action$='/verify']")))
		b.Do(chromedp.Click(chromedp.CSS("form[action$='/verify'] button")), chromedp.WaitReady(chromedp.CSS("body.page-jobs #log")))
		state(want)
		b.Go("/backups?cluster=lab")
		b.Until("the badge "+proof, `document.querySelector("#part-list tbody .pr-`+proof+`") != null`)
	}
	verify(job.Success, "verified")
	b.Until("why it is kept", `document.querySelector("#part-list").textContent.includes("kept:")`)

	b.Do(chromedp.Click(chromedp.CSS("#b-"+m.ID)), chromedp.WaitReady(chromedp.CSS("#part-looks .pr-verified")), chromedp.Click(chromedp.CSS("a[href^='/restore']")))
	b.Do(
		chromedp.WaitReady(chromedp.CSS("#plan-form")),
		chromedp.SetValue(chromedp.CSS("#plan-form input[name=directory]"), "/srv/<b>x</b>"),
		chromedp.Click(chromedp.CSS("#plan-form button")),
		chromedp.WaitReady(chromedp.CSS("#plan-command")),
	)
	const folder = "'/srv/<b>x</b>'"
	if got, want := pagetest.Get[string](b, `document.querySelector("#plan-command").textContent`), "drydock restore apply "+m.ID+" --to-directory "+folder+" --confirm "+folder; got != want {
		s.t.Errorf("the plan says %s", got)
	}
	if got := pagetest.Get[int](b, `document.querySelectorAll("#plan .steps li").length`); got < 3 {
		s.t.Errorf("the plan has %d steps", got)
	}

	data, err := os.ReadFile(m.Path)
	if err == nil {
		data[len(data)/2] ^= 1
		err = os.WriteFile(m.Path, data, 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	verify(job.Failed, "damaged")
}
