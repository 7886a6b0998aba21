package bus_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"drydock/bus"
	"drydock/internal/bustest"
)

func stranger(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// Whoever connects to the NATS port and does not say who he is, or says it wrong, must not stay, nor keep others out.
func TestStrangersOnTheBusAreCutOff(t *testing.T) {
	t.Parallel()
	s, _ := bustest.StartServer(t, bus.ServerConfig{Listen: "127.0.0.1:0"})
	for name, says := range map[string]string{
		"says nothing":      "",
		"half a line":       "CONNECT {",
		"no credentials":    "CONNECT {\"verbose\":false}\r\nPING\r\n",
		"wrong password":    "CONNECT {\"user\":\"drydock\",\"pass\":\"x\"}\r\nPING\r\n",
		"a line of a MiB":   strings.Repeat("x", 1<<20),
		"a payload unasked": "PUB drydock.job.a.b.1.c 5\r\nhello\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := stranger(t, s.Addr())
			go func() { _, _ = io.WriteString(c, says) }()
			answer, err := io.ReadAll(c) // until the server has ended it
			if err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("still open after 30 s: %v", err)
			}
			if strings.Contains(string(answer), "PONG") {
				t.Errorf("a stranger was let in: %q", answer)
			}
		})
	}
	idle := make([]net.Conn, 0, bus.MaxConnections+50)
	for range cap(idle) { // more than are let in at all
		idle = append(idle, stranger(t, s.Addr()))
	}
	bustest.Until(t, 30*time.Second, "a client is served while strangers come", func() bool {
		nc, err := nats.Connect(s.Addr(), nats.UserInfo("drydock", "test"), nats.Timeout(5*time.Second))
		if err != nil {
			return false // full for the two seconds that strangers have
		}
		nc.Close()
		return true
	})
	for _, c := range idle {
		c.Close()
	}
}

func TestBusRefusesOldTLS(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bus"}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}} // as app makes it
	s, _ := bustest.StartServer(t, bus.ServerConfig{Listen: "127.0.0.1:0", TLS: secure})
	for version, good := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		c := stranger(t, s.Addr())
		line := make([]byte, 1)
		for line[0] != '\n' { // INFO comes in clear
			if _, err := io.ReadFull(c, line); err != nil {
				t.Fatal(err)
			}
		}
		err := tls.Client(c, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version}).Handshake()
		if (err == nil) != good {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
}
