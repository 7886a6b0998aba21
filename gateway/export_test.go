package gateway

import "time"

// AnswerBy changes after how long shell clients are taken for gone; before [Gateway.Run].
func (g *Gateway) AnswerBy(d time.Duration) { g.answerBy = d }
