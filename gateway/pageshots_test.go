package gateway_test

import (
	"flag"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"drydock/bus"
	"drydock/internal/pagetest"
	"drydock/job"
	"drydock/store"
)

var shots = flag.String("screenshots", "", "folder for pictures of every page (make screenshots)")

// TestEveryPageCanBeSeenAndUsed looks at every page in light and dark and at a phone's width: nothing is cut off, every
// control has a name, nothing breaks the page's own policy.
func TestEveryPageCanBeSeenAndUsed(t *testing.T) {
	t.Parallel()
	f := newFleet(t, usualTexts)
	b := pagetest.Open(t, "http://"+f.g.HTTPAddr().String(), 1360, 900)
	picture := func(name string) {
		if *shots != "" {
			b.Shot(filepath.Join(*shots, name+".png"))
		}
	}
	look := func(name, path string) {
		b.Size(1360, 900)
		b.Theme("light")
		b.Go(path)
		f.moved(f.running, 5<<30, 94<<20)
		b.Until("live", `!document.getElementById("live") || document.getElementById("live-state").textContent == "live"`)
		for _, fault := range b.Faults() {
			t.Errorf("%s: %s", name, fault)
		}
		picture(name + "-light")
		b.Theme("dark")
		picture(name + "-dark")
		b.Size(390, 844)
		for _, fault := range b.Faults() {
			t.Errorf("%s at 390 px: %s", name, fault)
		}
		picture(name + "-phone")
	}
	look("login", "/login")
	b.Size(1360, 900)
	b.Login("admin", "repman")
	b.Until("history", `!document.body.textContent.includes("being read")`)
	look("fleet", "/")
	look("timeline", "/timeline")
	for ago := 55; ago >= 0; ago-- { // some pass by unseen: only the last stays on the bus
		lag := int64(max(0, 40-(ago-20)*(ago-20)))
		f.putFacts("prod", map[job.Server]store.Facts{
			{Host: "prod-db1.example.com", Port: 3306}: {Up: true, Role: store.RolePrimary, Running: 3 + ago%7, Time: time.Now().Add(-time.Duration(ago) * time.Minute)},
			{Host: "prod-db2.example.com", Port: 3306}: {
				Up: true, Role: store.RoleReplica, ReadOnly: true, Running: 1 + ago%3, Time: time.Now().Add(-time.Duration(ago) * time.Minute), Sources: []store.Source{{IO: "Yes", SQL: "Yes", Lag: &lag}},
			},
		})
	}
	look("maintenance", "/maintenance/prod")
	look("clusters", "/maintenance")
	look("history", "/history?since=7d")
	look("backups", "/backups?cluster=prod")
	look("backup", "/backups/"+f.backup.Cluster+"/"+f.backup.Server.Addr()+"/"+f.backup.ID)
	look("restore", "/restore")
	look("restore-plan", "/restore?cluster=prod&kind=directory&directory=/srv/restored&to=2026-11-26T03:00:00Z&backup="+f.backup.ID)
	look("schedules", "/schedules?cluster=prod")
	switched := func(what, text string) {
		b.Until(what, `document.querySelector("#part-plans")?.textContent.includes("`+text+`")`)
	}
	b.Size(1360, 900)
	b.Go("/schedules?cluster=prod")
	b.Do(chromedp.Click(chromedp.CSS(`#part-plans a[aria-label="Switch optimize of prod off"]`)), chromedp.WaitVisible(chromedp.CSS("#do-switch")),
		chromedp.SendKeys(chromedp.CSS("#switch input[name=note]"), "it <b>locks</b> orders"), chromedp.Click(chromedp.CSS("#do-switch")))
	switched("the switch", "it <b>locks</b> orders")
	look("schedules-off", "/schedules?cluster=prod&task=optimize&switch=1")
	look("explain", "/explain/prod/optimize")
	b.Size(1360, 900)
	b.Go("/schedules?cluster=prod&task=optimize")
	b.Do(chromedp.Click(chromedp.CSS("#switch summary")), chromedp.Click(chromedp.CSS("#do-switch")))
	switched("the schedule is on again", "runs")
	// Somebody else switches it: the page follows by itself.
	if _, err := store.NewControl(f.conn).SwitchOff(f.ctx(), bus.Switch{Cluster: "prod", Task: "optimize", By: "bob"}); err != nil {
		t.Fatal(err)
	}
	switched("the switch of somebody else", "by bob")
	look("conditions", "/conditions")
	look("health", "/health")
	look("job", "/jobs/"+f.running.ID)
	look("job-failed", "/jobs/"+f.failed.ID)
}
