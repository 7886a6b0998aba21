// Package pagetest drives drydock's page in a real headless Chromium, for tests.
package pagetest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"drydock/internal/bustest"
)

// Browser is one tab of a browser of its own.
type Browser struct {
	t    testing.TB
	ctx  context.Context
	base string // scheme, host and port of drydock

	mu       sync.Mutex
	problems []string
}

// limit is how long one thing that is waited for may take, on a machine that others use too.
func limit() time.Duration { return bustest.Patience * 40 * time.Second }

// Open starts Chromium at a width and height in pixels. It ends with the test, which fails when the page broke its own
// Content-Security-Policy or a script threw.
func Open(t testing.TB, base string, width, height int) *Browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("find chromium: %v; build/setup.sh installs it", err)
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(width, height), chromedp.UserDataDir(t.TempDir()),
		chromedp.IgnoreCertErrors, chromedp.Flag("hide-scrollbars", true), chromedp.Flag("lang", "en-GB"),
	)
	alloc, stopAlloc := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, stop := chromedp.NewContext(alloc)
	b := &Browser{t: t, ctx: ctx, base: base}
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil { // waits for the process
			t.Logf("close the browser: %v", err)
		}
		stop()
		stopAlloc()
		for _, p := range b.Problems() {
			t.Errorf("the browser complains: %s", p)
		}
	})
	err = chromedp.Listen(ctx, b.listen)
	if err == nil {
		_, err = chromedp.Call(ctx, log.Enable, cdp.Empty{})
	}
	if err == nil {
		_, err = chromedp.Call(ctx, runtime.Enable, cdp.Empty{})
	}
	if err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	return b
}

func (b *Browser) listen(ev any) {
	var text string
	switch e := ev.(type) {
	case *runtime.EventExceptionThrown:
		text = e.ExceptionDetails.Text
		if x := e.ExceptionDetails.Exception; x != nil {
			text += " " + x.Description
		}
	case *log.EventEntryAdded:
		if e.Entry.Level != log.EntryLevelError || strings.Contains(e.Entry.Text, "status of 4") || strings.Contains(e.Entry.Text, "net::ERR_") {
			return // answers that a test asks for, and a drydock that a test stops
		}
		text = e.Entry.Text
	default:
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, text)
}

// Problems are the complaints of the browser so far.
func (b *Browser) Problems() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.problems...)
}

// Do does things in the browser, and fails the test when one of them cannot be done in time.
func (b *Browser) Do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, limit())
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatalf("in the browser: %v\n%s", err, b.Seen())
	}
}

// Seen is the text of the page, for messages.
func (b *Browser) Seen() string {
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\n" + (document.body ? document.body.innerText : "")`))
	if err != nil {
		return err.Error()
	}
	return text
}

// Get evaluates JavaScript.
func Get[T any](b *Browser, js string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, limit())
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](js))
	if err != nil {
		b.t.Fatalf("%s: %v\n%s", js, err, b.Seen())
	}
	return v
}

// Go opens a path of drydock.
func (b *Browser) Go(path string) {
	b.t.Helper()
	b.Do(chromedp.Navigate(b.base+path), chromedp.WaitReady(chromedp.CSS("#main")))
}

// Login signs in by the form.
func (b *Browser) Login(user, password string) {
	b.t.Helper()
	b.Go("/login")
	b.Do(
		chromedp.SendKeys(chromedp.CSS("#username"), user), chromedp.SendKeys(chromedp.CSS("#password"), password),
		chromedp.Submit(chromedp.CSS("#password")), chromedp.WaitReady(chromedp.CSS("header.top")),
	)
}

// Until waits until a JavaScript expression is true. The page is looked at between its frames: nothing is slept.
func (b *Browser) Until(what, js string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, limit())
	defer cancel()
	for {
		_, err := chromedp.Run(ctx, chromedp.Poll[chromedp.Void](js, chromedp.WithPollingTimeout(limit())))
		if err == nil {
			return
		}
		// A form may lead to another page while the present one is looked at: look at that one.
		if ctx.Err() != nil || !strings.Contains(err.Error(), "navigated") && !strings.Contains(err.Error(), "context") {
			b.t.Fatalf("%s: %v\n%s", what, err, b.Seen())
		}
	}
}

// Size changes the width and height of the window.
func (b *Browser) Size(width, height int) {
	b.t.Helper()
	b.Do(chromedp.EmulateViewport(int64(width), int64(height)))
}

// Theme is what the system prefers: light or dark.
func (b *Browser) Theme(theme string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: theme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
	if err != nil {
		b.t.Fatal(err)
	}
}

// Shot writes the whole page as a picture.
func (b *Browser) Shot(file string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, limit())
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Fatal(err)
	}
	if len(png) < 2000 {
		b.t.Fatalf("the picture of %s has %d bytes", file, len(png))
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(file, png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// Faults looks for what keeps people from using a page: controls without a name, text outside of a phone's width,
// headings that begin below the first level, ids that stand twice.
func (b *Browser) Faults() []string {
	b.t.Helper()
	return Get[[]string](b, `(() => {
		const out = [], ids = new Map();
		for (const e of document.querySelectorAll("[id]")) ids.set(e.id, (ids.get(e.id) || 0) + 1);
		for (const [id, n] of ids) if (n > 1) out.push("id " + id + " stands " + n + " times");
		const name = (e) => (e.getAttribute("aria-label") || e.title || e.textContent || (e.labels && [...e.labels].map((l) => l.textContent).join("")) || "").trim();
		for (const e of document.querySelectorAll("a, button, input:not([type=hidden]), select, summary, [role=img], [tabindex='0']"))
			if (name(e) === "" && !e.closest("[hidden]")) out.push("no name: " + e.outerHTML.slice(0, 120));
		if (document.querySelectorAll("h1").length !== 1) out.push(document.querySelectorAll("h1").length + " headings of the first level");
		if (document.querySelectorAll("[style]").length) out.push("inline style: " + document.querySelector("[style]").outerHTML.slice(0, 120));
		const wide = document.documentElement.scrollWidth - window.innerWidth;
		if (wide > 0) {
			const e = [...document.querySelectorAll("main *")].find((e) => !e.closest(".scroll, .log, nav, svg") && e.getBoundingClientRect().right > window.innerWidth + 1);
			out.push(wide + " px wider than the window: " + (e ? e.outerHTML.slice(0, 160) : "?"));
		}
		return out;
	})()`)
}
