package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Porch holds the listeners of a gateway that cannot work yet, and says so there: 503 to every call, and to /readyz what
// is missing, so that a balancer passes it by and an operator sees a process that waits instead of none. The gateway
// takes the listeners over when it runs; no caller is refused in between.
type Porch struct {
	listen  []net.Listener // clear (if any), then TLS
	secure  []*tls.Config  // one per listener; nil for the one in clear
	servers []*http.Server // on the porch; none in a porch that only holds listeners
	work    sync.WaitGroup
}

// OpenPorch binds the listeners of cfg and answers there until [Gateway.Run] or [Porch.Close].
// Errors: [ErrConfig], what the listeners said.
func OpenPorch(cfg Config) (*Porch, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	p, err := openDoors(cfg)
	if err != nil {
		return nil, err
	}
	guests := newCrowd(cfg.MaxConnections, cfg.Log)
	for i, l := range p.listen {
		s := newServer(porchHandler(cfg.Version), p.secure[i], guests, cfg.Log)
		p.servers = append(p.servers, s)
		p.work.Go(func() { _ = serve(s, lentListener{l.(*net.TCPListener)}) }) // leave ends it; a broken listener fails the gateway
	}
	cfg.Log.Info("gateway answers that it is not ready", "addr", p.listen[len(p.listen)-1].Addr())
	return p, nil
}

// openDoors binds the listeners and leaves them unserved.
func openDoors(cfg Config) (*Porch, error) {
	certificate, err := loadCertificate(cfg)
	if err != nil {
		return nil, err
	}
	p := &Porch{}
	if cfg.HTTPPort >= 0 {
		if err := p.bind(cfg.Bind, cfg.HTTPPort, "http-port", nil); err != nil {
			return nil, err
		}
	}
	if err := p.bind(cfg.Bind, cfg.APIPort, "api-port", tlsConfig(certificate)); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Porch) bind(host string, port int, key string, secure *tls.Config) error {
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen on %s (%s): %w", addr, key, err)
	}
	p.listen, p.secure = append(p.listen, l), append(p.secure, secure)
	return nil
}

func porchHandler(version string) http.Handler {
	mux := http.NewServeMux()
	say := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			w.WriteHeader(code)
			_, _ = w.Write([]byte(body))
		}
	}
	mux.Handle("/healthz", say(http.StatusOK, fmt.Sprintf(`{"status":"ok","version":%q}`, version)))
	mux.Handle("/readyz", say(http.StatusServiceUnavailable, `{"missing":["bus"],"status":"not ready"}`))
	mux.Handle("/", say(http.StatusServiceUnavailable,
		`{"error":{"code":"unavailable","message":"drydock is starting: the bus (nats-url) does not answer yet; try again later"}}`))
	return mux
}

// porchTimeout is what calls on the porch get when it is left; their answers are a line.
const porchTimeout = 2 * time.Second

// leave ends the porch and keeps its listeners open; calls that come meanwhile wait in them.
func (p *Porch) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), porchTimeout)
	defer cancel()
	for _, s := range p.servers {
		if s.Shutdown(ctx) != nil {
			_ = s.Close()
		}
	}
	p.work.Wait()
	for _, l := range p.listen {
		_ = l.(*net.TCPListener).SetDeadline(time.Time{})
	}
	p.servers = nil
}

// Close ends the porch and closes the listeners, unless a gateway took them over and has closed them.
func (p *Porch) Close() error {
	p.leave()
	var errs []error
	for _, l := range p.listen {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// lentListener is not closed with the server that serves it: closing only ends the wait for the next call.
type lentListener struct{ *net.TCPListener }

func (l lentListener) Close() error { return l.SetDeadline(time.Now()) }
