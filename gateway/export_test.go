package gateway

import (
	"net"
	"time"
)

// AnswerBy changes after how long shell clients are taken for gone; before [Gateway.Run].
func (g *Gateway) AnswerBy(d time.Duration) { g.answerBy = d }

// QuickConn is what the TLS listener makes of a connection.
func QuickConn(c *net.TCPConn) net.Conn { return quickConn{c} }
