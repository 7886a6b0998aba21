package gateway_test

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"drydock/gateway"
	"drydock/internal/bustest"
)

// The danger: a gateway that started before its bus refuses connections, so that nobody can see what it waits for, or
// never hands its ports over to the real one, or loses them on the way.
func TestPorchSaysWhatIsMissingAndHandsItsPortsOver(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	cfg := r.cfg
	porch, err := gateway.OpenPorch(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Porch = porch
	g, err := gateway.New(cfg, r.deps)
	if err != nil {
		t.Fatal(err)
	}
	url := "https://" + g.APIAddr().String()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	get := func(path string) (int, string) {
		t.Helper()
		res, err := client.Get(url + path)
		if err != nil {
			t.Fatalf("a caller was refused: %v", err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(body)
	}
	if code, body := get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, `"missing":["bus"]`) {
		t.Errorf("/readyz: %d %s", code, body)
	}
	if code, body := get("/api/clusters"); code != http.StatusServiceUnavailable || !strings.Contains(body, `"unavailable"`) {
		t.Errorf("a call: %d %s", code, body)
	}
	if code, _ := get("/healthz"); code != http.StatusOK {
		t.Errorf("/healthz: %d", code)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	bustest.Until(t, 20*time.Second, "the gateway is ready", func() bool { code, _ := get("/readyz"); return code == http.StatusOK })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := porch.Close(); err != nil {
		t.Error(err)
	}
}

func TestPorchThatIsNeverLeftFreesItsPorts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	porch, err := gateway.OpenPorch(r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg := r.cfg
	cfg.Porch = porch
	g, err := gateway.New(cfg, r.deps) // only to learn where the porch listens
	if err != nil {
		t.Fatal(err)
	}
	if err := porch.Close(); err != nil {
		t.Fatal(err)
	}
	if res, err := http.Get("http://" + g.APIAddr().String()); err == nil {
		res.Body.Close()
		t.Error("a closed porch still answers")
	}
}
