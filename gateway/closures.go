package gateway

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"drydock/gateway/auth"
	"drydock/store"
)

// listClosures answers the holds and blackouts that concern a cluster which the caller may see.
func (g *Gateway) listClosures(c *gin.Context) {
	all, err := g.control.Closures(c.Request.Context())
	if err != nil {
		g.fail(c, err)
		return
	}
	seen := map[string]bool{"": len(g.readable(callOf(c))) > 0}
	for _, cl := range g.readable(callOf(c)) {
		seen[cl.Name] = true
	}
	out := store.Closures{Holds: []store.Hold{}, Blackouts: []store.Blackout{}}
	for _, h := range all.Holds {
		if seen[h.Cluster] {
			out.Holds = append(out.Holds, h)
		}
	}
	for _, b := range all.Blackouts {
		if seen[b.Cluster] {
			out.Blackouts = append(out.Blackouts, b)
		}
	}
	reply(c, http.StatusOK, out)
}

// mayHold checks the grant on the route's cluster, or on every cluster for a route without one. It answers by itself when
// it is missing.
func (g *Gateway) mayHold(c *gin.Context) {
	if name := c.Param("cluster"); name == "" {
		g.mayHoldOn(c, "")
	} else if g.mayRead(c, name) {
		g.mayHoldOn(c, name)
	}
}

func (g *Gateway) mayHoldOn(c *gin.Context, name string) bool {
	for _, cl := range g.order {
		if (name == "" || cl.Name == name) && !callOf(c).who.May(cl.Name, "", auth.Hold) {
			on := "cluster " + cl.Name
			if !callOf(c).who.MayRead(cl.Name) {
				on = "some cluster" // not even its name is for everybody
			}
			g.fail(c, errForbidden.withMessage("the grant %s is missing on %s", auth.Hold, on))
			return false
		}
	}
	return true
}

// bodyInto reads the JSON of a request; an empty body leaves v as it is.
func (g *Gateway) bodyInto(c *gin.Context, v any) bool {
	body := callOf(c).body
	if len(body) == 0 {
		return true
	}
	if err := json.Unmarshal(body, v); err != nil {
		g.fail(c, errBadRequest.withMessage("the body is not the JSON that is wanted: %v", err))
		return false
	}
	return true
}

// holdRequest is the body of the hold routes.
type holdRequest struct {
	Reason string `json:"reason,omitempty"`
}

func (g *Gateway) setHold(c *gin.Context) {
	var in holdRequest
	if !g.bodyInto(c, &in) {
		return
	}
	callOf(c).act.Reason = in.Reason
	h, err := g.control.SetHold(c.Request.Context(), store.Hold{Cluster: c.Param("cluster"), Reason: in.Reason, By: callOf(c).who.Name})
	if err != nil {
		g.fail(c, err)
		return
	}
	reply(c, http.StatusOK, h)
}

func (g *Gateway) liftHold(c *gin.Context) {
	h, err := g.control.LiftHold(c.Request.Context(), c.Param("cluster"))
	if err != nil {
		g.fail(c, err)
		return
	}
	callOf(c).act.Detail = "of " + h.By
	reply(c, http.StatusOK, h)
}

// blackoutRequest is the body of the blackout routes.
type blackoutRequest struct {
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	Reason string    `json:"reason,omitempty"`
}

func (g *Gateway) addBlackout(c *gin.Context) {
	var in blackoutRequest
	if !g.bodyInto(c, &in) {
		return
	}
	callOf(c).act.Reason, callOf(c).act.Detail = in.Reason, in.From.UTC().Format(time.RFC3339)+" to "+in.To.UTC().Format(time.RFC3339)
	b, err := g.control.AddBlackout(c.Request.Context(), store.Blackout{
		Cluster: c.Param("cluster"), From: in.From, To: in.To, Reason: in.Reason, By: callOf(c).who.Name,
	})
	if err != nil {
		g.fail(c, err)
		return
	}
	callOf(c).act.Target = b.ID
	reply(c, http.StatusCreated, b)
}

// removeBlackout looks first whose blackout it is: the route does not say.
func (g *Gateway) removeBlackout(c *gin.Context) {
	all, err := g.control.Closures(c.Request.Context())
	if err != nil {
		g.fail(c, err)
		return
	}
	for _, b := range all.Blackouts {
		if b.ID != c.Param("id") {
			continue
		}
		callOf(c).act.Cluster, callOf(c).act.Detail = b.Cluster, b.String()
		if b.Cluster != "" && !g.mayRead(c, b.Cluster) || !g.mayHoldOn(c, b.Cluster) {
			return
		}
	}
	b, err := g.control.RemoveBlackout(c.Request.Context(), c.Param("id"))
	if err != nil {
		g.fail(c, err)
		return
	}
	reply(c, http.StatusOK, b)
}

// open reports whether a run by hand may begin on the cluster; it answers by itself when it may not. Who may set and lift
// holds may pass them by with ?force=1.
func (g *Gateway) open(c *gin.Context, name string) (force, ok bool) {
	if c.Query("force") == "1" {
		return true, g.mayHoldOn(c, name)
	}
	all, err := g.control.Closures(c.Request.Context())
	if err != nil {
		g.fail(c, err)
		return false, false
	}
	if why, shut := all.Shut(name, time.Now()); shut {
		g.fail(c, errConflict.withMessage("%s; ?force=1 runs it anyway", why))
		return false, false
	}
	return false, true
}
