package main

import (
	"io"
	"net"
	"testing"
	"time"
)

// A partition that lets something pass, or ends connections, is none: the storm would praise what it never tried.
func TestNothingPassesARoadThatIsCutAndAllOfItLater(t *testing.T) {
	t.Parallel()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	r, err := newRoad("127.0.0.1:0", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", r.l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	near := dial()
	defer near.Close()
	far, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	says := func(from, to net.Conn, text string) {
		t.Helper()
		if _, err := io.WriteString(from, text); err != nil {
			t.Fatal(err)
		}
		if to == nil {
			return
		}
		got := make([]byte, len(text))
		_ = to.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.ReadFull(to, got); err != nil || string(got) != text {
			t.Fatalf("%q came as %q: %v", text, got, err)
		}
	}
	hears := func(c net.Conn) bool {
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, err := c.Read(make([]byte, 1))
		e, ok := err.(net.Error)
		return n > 0 || !ok || !e.Timeout()
	}
	says(near, far, "there")
	says(far, near, "and back")
	if n := r.cut(); n != 2 {
		t.Errorf("%d ends are cut", n)
	}
	says(near, nil, "held")
	says(far, nil, "held too")
	late := dial()
	defer late.Close()
	if hears(far) || hears(near) || hears(late) {
		t.Error("something passes, or a connection has ended")
	}
	r.heal()
	r.heal()
	says(near, far, "") // what was held comes first
	for c, want := range map[net.Conn]string{far: "held", near: "held too"} {
		got := make([]byte, len(want))
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
			t.Errorf("%q came as %q: %v", want, got, err)
		}
	}
	if c, err := server.Accept(); err != nil {
		t.Error(err)
	} else {
		defer c.Close()
		says(late, c, "late")
	}
}
