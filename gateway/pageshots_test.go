package gateway_test

import (
	"flag"
	"path/filepath"
	"testing"

	"drydock/internal/pagetest"
)

var shots = flag.String("screenshots", "", "folder for pictures of every page (make screenshots)")

// TestEveryPageCanBeSeenAndUsed looks at every page in light and dark and at a phone's width: nothing is cut off, every
// control has a name, nothing breaks the page's own policy.
func TestEveryPageCanBeSeenAndUsed(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	b := pagetest.Open(t, "http://"+f.g.HTTPAddr().String(), 1360, 900)
	folder := *shots
	if folder == "" {
		folder = t.TempDir()
	}
	look := func(name, path string) {
		for _, theme := range []string{"light", "dark"} {
			b.Theme(theme)
			b.Size(1360, 900)
			b.Go(path)
			f.moved(f.running, 5<<30, 94<<20)
			if name != "login" {
				b.Until("live", `document.getElementById("live-state").textContent == "live" || !document.getElementById("live")`)
			}
			for _, fault := range b.Faults() {
				t.Errorf("%s: %s", name, fault)
			}
			b.Shot(filepath.Join(folder, name+"-"+theme+".png"))
		}
		b.Size(390, 844)
		for _, fault := range b.Faults() {
			t.Errorf("%s at 390 px: %s", name, fault)
		}
		b.Shot(filepath.Join(folder, name+"-phone.png"))
	}
	look("login", "/login")
	b.Size(1360, 900)
	b.Login("admin", "repman")
	b.Until("history", `!document.body.textContent.includes("being read")`)
	look("fleet", "/")
	look("job", "/jobs/"+f.running.ID)
	look("job-failed", "/jobs/"+f.failed.ID)
}
