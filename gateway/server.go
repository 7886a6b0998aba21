package gateway

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// The deadlines of a connection. A whole request is at most 1 MiB, and every answer is short; only event streams set
// their own.
const (
	headerTimeout = 10 * time.Second
	readTimeout   = 30 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = 90 * time.Second // longer than the 60 s after which most balancers forget a connection
	maxHeader     = 32 << 10
)

// newServer makes a server for one listener; secure is nil for the one in clear. HTTP/2 is off: no client of the protocol
// speaks it, and its multiplexing would undo the one-connection-one-call order that half-closing clients rely on.
func newServer(handler http.Handler, secure *tls.Config, guests *crowd, log *slog.Logger) *http.Server {
	s := &http.Server{
		Handler: handler, TLSConfig: secure, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout,
		WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog:  slog.NewLogLogger(log.Handler(), slog.LevelDebug), // handshakes that strangers break off
		Protocols: new(http.Protocols), ConnState: guests.watch,
	}
	s.Protocols.SetHTTP1(true)
	return s
}

func serve(s *http.Server, l net.Listener) error {
	if s.TLSConfig == nil {
		return s.Serve(l)
	}
	return s.ServeTLS(quickListener{l}, "", "")
}

// tlsConfig names http/1.0 as well: what a client of that version offers (curl -0) would be refused otherwise.
func tlsConfig(c tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{c}, NextProtos: []string{"http/1.1", "http/1.0"},
	}
}

// quickListener gives connections that acknowledge at once. In TLS 1.3 the server's first flight carries the session
// ticket, so nothing of the server's travels that could carry the acknowledgement of the client's last handshake message;
// the client's Nagle then holds the request back until the delayed acknowledgement comes, 40 ms later (perf.md section 3).
type quickListener struct{ net.Listener }

func (l quickListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok {
		return quickConn{tcp}, nil
	}
	return c, err
}

// quickConn re-arms the option after each read and write: the kernel drops it whenever it pleases.
type quickConn struct{ *net.TCPConn }

func (c quickConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	quickAck(c.TCPConn)
	return n, err
}

func (c quickConn) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	quickAck(c.TCPConn)
	return n, err
}
