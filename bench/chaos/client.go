package main

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// client writes log lines and asks for jobs as a script and a person do, and remembers what it was told.
type client struct {
	bases  []string // of the gateways
	turn   atomic.Int64
	server string // HOST:PORT of the database
	route  string // of the server
	http   *http.Client

	mu    sync.Mutex
	acked []string   // log lines that were answered with 200
	sent  int        // log lines, answered or not
	asked []askedJob // jobs that were answered with 202
	token string
}

// askedJob is a job that drydock said it would start.
type askedJob struct{ ID, Task, Tick string }

const (
	writers     = 10 // at once: enough for the gateway to group their lines
	linesAtOnce = 3
	callTimeout = 5 * time.Second
	callTries   = 4
)

func newClient(s *site) *client {
	return &client{
		bases: s.urls(), server: s.db.Addr(),
		route: fmt.Sprintf("/api/clusters/%s/servers/127.0.0.1/%d", cluster, s.db.Port()),
		http: &http.Client{Timeout: callTimeout, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true, // the certificate is drydock's own
		}},
	}
}

// run writes lines until ctx ends; a batch in hand is given up then.
func (c *client) run(ctx context.Context) {
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n += linesAtOnce {
				c.write(ctx, w, n)
				pause(ctx, 300*time.Millisecond)
			}
		})
	}
	wg.Wait()
}

// write sends one batch; tries of the same batch have the same nonce.
func (c *client) write(ctx context.Context, writer, first int) {
	lines := make([]string, linesAtOnce)
	for i := range lines {
		lines[i] = fmt.Sprintf("chaos line %d.%d", writer, first+i)
	}
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // never fails
	body := c.sealed(map[string]any{
		"server": c.server, "secret": password, "level": "INFO", "nonce": hex.EncodeToString(nonce), "time": time.Now().Unix(),
		"log": lines[0] + "\n" + lines[1] + "\n" + lines[2],
	})
	c.mu.Lock()
	c.sent += linesAtOnce
	c.mu.Unlock()
	for range callTries {
		if code, _, err := c.call(ctx, "POST", c.route+"/write-log/main", c.scriptToken(ctx), body); err == nil && code == http.StatusOK {
			c.mu.Lock()
			c.acked = append(c.acked, lines...)
			c.mu.Unlock()
			return
		} else if err == nil && code == http.StatusUnauthorized {
			c.forget()
		}
		if !pause(ctx, 200*time.Millisecond) {
			return
		}
	}
}

// sealed is the envelope of wire.md section 2.
func (c *client) sealed(identity map[string]any) []byte {
	plain, _ := json.Marshal(identity) // strings and numbers
	n := aes.BlockSize - len(plain)%aes.BlockSize
	plain = append(plain, bytes.Repeat([]byte{byte(n)}, n)...)
	key, iv := sha256.Sum256([]byte(password)), md5.Sum([]byte(password))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	cipher.NewCBCEncrypter(block, iv[:]).CryptBlocks(plain, plain)
	return []byte(`{"data":"` + base64.StdEncoding.EncodeToString(plain) + `"}`)
}

func (c *client) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token = ""
}

// scriptToken is the token of secret-login, empty while drydock gives none.
func (c *client) scriptToken(ctx context.Context) string {
	c.mu.Lock()
	token := c.token
	c.mu.Unlock()
	if token != "" {
		return token
	}
	var out struct{ Token string }
	_, data, err := c.call(ctx, "POST", c.route+"/secret-login", "", c.sealed(map[string]any{"server": c.server, "secret": password, "time": time.Now().Unix()}))
	if err == nil && json.Unmarshal(data, &out) == nil && out.Token != "" {
		c.mu.Lock()
		c.token = out.Token
		c.mu.Unlock()
	}
	return out.Token
}

// ask asks for a task as a person does, once, and returns the job that was promised; ok is false when none was.
func (c *client) ask(ctx context.Context, task string) (j askedJob, ok bool) {
	var login struct{ Token string }
	_, data, err := c.call(ctx, "POST", "/api/login", "", []byte(`{"username":"admin","password":"secret"}`))
	if err != nil || json.Unmarshal(data, &login) != nil {
		return j, false
	}
	code, data, err := c.call(ctx, "POST", c.route+"/jobs/"+task, login.Token, nil)
	var out struct {
		Tick string
		Jobs []struct{ ID string }
	}
	if err != nil || code != http.StatusAccepted || json.Unmarshal(data, &out) != nil || len(out.Jobs) != 1 {
		return j, false
	}
	j = askedJob{out.Jobs[0].ID, task, out.Tick}
	c.mu.Lock()
	c.asked = append(c.asked, j)
	c.mu.Unlock()
	return j, true
}

func (c *client) call(ctx context.Context, method, path, token string, body []byte) (code int, answer []byte, err error) {
	base := c.bases[int(c.turn.Add(1))%len(c.bases)] // the next try asks the next one
	req, err := http.NewRequestWithContext(ctx, method, base+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, answer, err
}

// told is what the client was told so far.
func (c *client) told() (acked []string, sent int, asked []askedJob) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.acked), c.sent, slices.Clone(c.asked)
}

// pause waits, and says whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
