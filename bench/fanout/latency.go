package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"drydock/gateway/envelope"
)

// latency measures single steps of single jobs, one after the other, on a drydock with one server.
func (b *bench) latency(ctx context.Context) (err error) {
	s, err := b.newSite(ctx, "api", 1, b.ports(1))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	jobs, stop, err := s.follow(ctx, "DRYDOCK_JOBS")
	if err != nil {
		return err
	}
	defer stop()
	ticks, stopTicks, err := s.follow(ctx, "DRYDOCK_TASKS")
	if err != nil {
		return err
	}
	defer stopTicks()
	c := newCaller(s)
	if err := c.login(ctx); err != nil {
		return err
	}
	var steps [4][]float64 // ms
	begun := time.Now()
	for len(steps[0]) < b.samples && time.Since(begun) < b.bound {
		took, err := c.once(ctx, ticks, jobs)
		if err != nil {
			return err
		}
		for i, d := range took {
			steps[i] = append(steps[i], d.Seconds()*1000)
		}
	}
	fmt.Printf("\n### Latency of single steps\n\n%d jobs, one after the other, mode api, one server.\n", len(steps[0]))
	fmt.Println("\n| from | until | p50, ms | p99, ms |\n|---|---|---|---|")
	for i, name := range []string{
		"a tick is on the log | its job is `available`", "the script calls `done` | the job is `success` on the log",
		"a quiet job's `processing` is on the log | the open page has it", "`success` is on the log, just behind `finished` | the open page has it",
	} {
		fmt.Printf("| %s | %.1f | %.1f |\n", name, quantile(steps[i], 0.50), quantile(steps[i], 0.99))
	}
	return nil
}

// quantile is the figure below which the part q of them lies. There must be one.
func quantile(figures []float64, q float64) float64 {
	s := slices.Sorted(slices.Values(figures))
	return s[min(int(q*float64(len(s))), len(s)-1)]
}

// heard is one message, with the time at which it was on the log.
type heard struct {
	at  time.Time
	job string // id
}

// follow gives what is written from now on.
func (s *site) follow(ctx context.Context, name string) (jetstream.MessagesContext, func(), error) {
	stream, err := s.js.Stream(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	cons, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy})
	if err != nil {
		return nil, nil, err
	}
	it, err := cons.Messages()
	if err != nil {
		return nil, nil, err
	}
	unhook := context.AfterFunc(ctx, it.Stop)
	return it, func() { unhook(); it.Stop() }, nil
}

// until reads messages until one has this state.
func until(it jetstream.MessagesContext, state string) (h heard, err error) {
	for {
		m, err := it.Next(jetstream.NextMaxWait(time.Minute))
		if err != nil {
			return h, fmt.Errorf("wait for %s: %w", state, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return h, err
		}
		var v struct {
			State, Outcome string
			Job            struct{ ID string }
		}
		if err := json.Unmarshal(m.Data(), &v); err != nil {
			return h, err
		}
		if v.State == state || v.Outcome == state {
			return heard{meta.Timestamp, v.Job.ID}, nil
		}
	}
}

// caller is a person with a browser, and the script of the server.
type caller struct {
	base, route, server string
	http                *http.Client
	admin, script       string // tokens
}

const callTimeout = 30 * time.Second

func newCaller(s *site) *caller {
	jar, _ := cookiejar.New(nil) // never fails
	return &caller{
		base:  fmt.Sprintf("http://127.0.0.1:%d", s.http),
		route: fmt.Sprintf("/api/clusters/%s/servers/%s/%d", cluster, address(0), s.dbPorts[0]), server: s.server(0),
		http: &http.Client{Jar: jar},
	}
}

func (c *caller) login(ctx context.Context) error {
	var out struct{ Token string }
	data, err := c.call(ctx, "/api/login", "", []byte(`{"username":"admin","password":"secret"}`))
	if err != nil || json.Unmarshal(data, &out) != nil {
		return fmt.Errorf("log in: %w: %s", err, data)
	}
	c.admin = out.Token
	sealed := envelope.New(password).Seal(fmt.Appendf(nil, `{"server":"%s","secret":"%s"}`, c.server, password))
	data, err = c.call(ctx, c.route+"/secret-login", "", []byte(sealed))
	if err != nil || json.Unmarshal(data, &out) != nil {
		return fmt.Errorf("log in as the script: %w: %s", err, data)
	}
	c.script = out.Token
	resp, err := c.http.PostForm(c.base+"/login", url.Values{"username": {"admin"}, "password": {"secret"}})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// call posts and gives the answer, which must be one of success.
func (c *caller) call(ctx context.Context, path, token string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("post %s: %s: %s", path, resp.Status, data)
	}
	return data, err
}

// quiet is longer than the page lets pass between two looks.
const quiet = 400 * time.Millisecond

// once takes one job through its states.
func (c *caller) once(ctx context.Context, ticks, jobs jetstream.MessagesContext) (took [4]time.Duration, err error) {
	if _, err := c.call(ctx, c.route+"/jobs/optimize", c.admin, nil); err != nil {
		return took, err
	}
	tick, err := until(ticks, "fired")
	if err != nil {
		return took, err
	}
	available, err := until(jobs, "available")
	if err != nil {
		return took, err
	}
	took[0] = available.at.Sub(tick.at)
	page, err := c.open(ctx, "/live/jobs/"+available.job)
	if err != nil {
		return took, err
	}
	defer page.close()
	if err := c.claim(ctx); err != nil {
		return took, err
	}
	if err := pause(ctx, quiet); err != nil {
		return took, err
	}
	if _, err := c.call(ctx, c.route+"/actions/job-state/optimize/processing", c.script, nil); err != nil {
		return took, err
	}
	processing, err := until(jobs, "processing")
	if err != nil {
		return took, err
	}
	shown, err := page.until(ctx, "processing")
	if err != nil {
		return took, err
	}
	took[2] = shown.Sub(processing.at)
	if err := pause(ctx, quiet); err != nil {
		return took, err
	}
	begun := time.Now()
	if _, err := c.call(ctx, c.route+"/actions/job-state/optimize/done", c.script, nil); err != nil {
		return took, err
	}
	success, err := until(jobs, "success")
	if err != nil {
		return took, err
	}
	took[1] = success.at.Sub(begun)
	shown, err = page.until(ctx, "success")
	took[3] = shown.Sub(success.at)
	return took, err
}

// claim asks for the job until it gets it: the gateway may hear of the offer a moment later than the bench does.
func (c *caller) claim(ctx context.Context) error {
	for begun := time.Now(); ; {
		_, err := c.call(ctx, c.route+"/needs/optimize", c.script, nil)
		if err == nil || time.Since(begun) > callTimeout {
			return err
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}

// page is an open page of a browser.
type page struct {
	cancel context.CancelFunc
	body   io.ReadCloser
	lines  chan said // the reader sends, and closes it at its end
}

type said struct {
	at   time.Time
	text string
}

func (c *caller) open(ctx context.Context, path string) (*page, error) {
	ctx, cancel := context.WithCancel(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		cancel()
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		cancel()
		return nil, err
	}
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		cancel()
		return nil, errors.Join(fmt.Errorf("open %s: %s", path, resp.Status), resp.Body.Close())
	}
	p := &page{cancel: cancel, body: resp.Body, lines: make(chan said, 1000)}
	go func() { // ends with the connection, which close ends and waits for
		defer close(p.lines)
		in := bufio.NewReader(resp.Body)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			p.lines <- said{at: time.Now(), text: line}
		}
	}()
	return p, nil
}

func (p *page) close() {
	p.cancel()
	p.body.Close()
	for range p.lines {
	}
}

// until is when the page was told of a state.
func (p *page) until(ctx context.Context, state string) (at time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return at, fmt.Errorf("wait for the page to show %s: %w", state, ctx.Err())
		case l, ok := <-p.lines:
			if !ok {
				return at, fmt.Errorf("wait for the page to show %s: its stream has ended", state)
			}
			if strings.Contains(l.text, state) {
				return l.at, nil
			}
		}
	}
}
