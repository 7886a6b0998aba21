package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"drydock/bus"
	"drydock/gateway/auth"
	"drydock/gateway/envelope"
	"drydock/job"
	"drydock/store"
)

// text answers with exactly these bytes. The length is always stated: shell clients take everything after the first empty
// line for the body, so a chunked answer would put chunk sizes into it (wire.md section 1).
func text(c *gin.Context, status int, body string) {
	c.Header("Content-Length", strconv.Itoa(len(body)))
	c.Data(status, "text/plain; charset=utf-8", []byte(body))
}

// yesNo answers a question of the protocol: 200 `true`, or 500 `false` (wire.md section 3).
func yesNo(c *gin.Context, yes bool) {
	if yes {
		text(c, http.StatusOK, "true")
		return
	}
	text(c, http.StatusInternalServerError, "false")
}

// reply answers with JSON, without a space after its colons: shell clients read it with grep.
func reply(c *gin.Context, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":{"code":"internal","message":"answer cannot be written"}}`)
	}
	c.Header("Content-Length", strconv.Itoa(len(body)))
	c.Data(status, "application/json; charset=utf-8", body)
}

// problem is an error with its own status.
type problem struct {
	status        int
	code, message string
}

func (p *problem) Error() string { return p.message }

// withMessage is the same problem with more to say. [errors.Is] holds between the two.
func (p *problem) withMessage(format string, args ...any) *problem {
	return &problem{p.status, p.code, fmt.Sprintf(format, args...)}
}

// Is makes problems of one code the same.
func (p *problem) Is(err error) bool {
	other, ok := err.(*problem)
	return ok && other.code == p.code
}

var (
	errNoRoute      = &problem{http.StatusNotFound, "not_found", "no such page"}
	errMethod       = &problem{http.StatusMethodNotAllowed, "method_not_allowed", "method not allowed here"}
	errCluster      = &problem{http.StatusNotFound, "unknown_cluster", "unknown cluster"}
	errServer       = &problem{http.StatusNotFound, "unknown_server", "unknown server"}
	errUser         = &problem{http.StatusNotFound, "unknown_user", "unknown user"}
	errTooMany      = &problem{http.StatusTooManyRequests, "too_many", "too many failed logins, try again later"}
	errBackup       = &problem{http.StatusNotFound, "unknown_backup", "unknown backup"}
	errSchedule     = &problem{http.StatusNotFound, "unknown_schedule", "no such schedule"}
	errUnauthorized = &problem{http.StatusUnauthorized, "unauthorized", "wrong credentials"}
	errForbidden    = &problem{http.StatusForbidden, "forbidden", "not granted"}
	errTooLarge     = &problem{http.StatusRequestEntityTooLarge, "too_large", "body is larger than 1 MiB"}
	errPacked       = &problem{http.StatusUnsupportedMediaType, "packed", "a body is sent as it is, without Content-Encoding"}
	errBadRequest   = &problem{http.StatusBadRequest, "bad_request", "request cannot be read"}
	errConflict     = &problem{http.StatusConflict, "conflict", "not possible in this state"}
	errNotBuilt     = &problem{http.StatusNotImplemented, "not_built", "not built yet"}
	errUnavailable  = &problem{http.StatusServiceUnavailable, "unavailable", "a part of drydock does not answer, try again"}
	errStarting     = errUnavailable.withMessage("drydock is starting, try again")
	errInternal     = &problem{http.StatusInternalServerError, "internal", "internal error"}
)

// statuses maps the errors of other packages; the first that matches holds.
var statuses = []struct {
	err error
	as  *problem
}{
	{auth.ErrCredentials, errUnauthorized},
	{auth.ErrToken, errUnauthorized},
	{envelope.ErrSealed, errUnauthorized},
	{job.ErrUnknownTask, &problem{http.StatusNotFound, "unknown_task", "unknown task"}},
	{job.ErrID, &problem{http.StatusNotFound, "unknown_job", "unknown job"}},
	{store.ErrNone, &problem{http.StatusNotFound, "unknown_job", "unknown job"}},
	{store.ErrNoClosure, &problem{http.StatusNotFound, "unknown_closure", "no such hold or blackout"}},
	{store.ErrNoCondition, &problem{http.StatusNotFound, "unknown_condition", "no such open condition"}},
	{store.ErrNoBackup, errBackup},
	{store.ErrRemoved, errConflict.withMessage("the backup is deleted, or about to be")},
	{store.ErrNoUser, errUser},
	{store.ErrNoToken, &problem{http.StatusNotFound, "unknown_token", "unknown token"}},
	{auth.ErrBusy, errUnavailable.withMessage("too many logins at a time, try again")},
	{store.ErrLive, errConflict},
	{store.ErrStale, errConflict},
	{job.ErrTransition, errConflict},
	{store.ErrBusy, errUnavailable},
	{bus.ErrNobody, errUnavailable},
	{bus.ErrStopped, errUnavailable},
	{context.DeadlineExceeded, errUnavailable},
	{context.Canceled, errUnavailable},
	{nats.ErrTimeout, errUnavailable},
	{nats.ErrConnectionClosed, errUnavailable},
	{nats.ErrConnectionReconnecting, errUnavailable},
	{nats.ErrConnectionDraining, errUnavailable},
	{nats.ErrReconnectBufExceeded, errUnavailable},
	{nats.ErrNoResponders, errUnavailable},
	{jetstream.ErrNoStreamResponse, errUnavailable},
	{jetstream.ErrJetStreamNotEnabled, errUnavailable},
}

func problemOf(err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	switch {
	case errors.Is(err, store.ErrBlackout), errors.Is(err, store.ErrUser), errors.Is(err, store.ErrNote), errors.Is(err, auth.ErrPassword):
		return errBadRequest.withMessage("%v", err) // it says what is wrong with it
	case errors.Is(err, store.ErrNoSchedule):
		return errSchedule.withMessage("%v", err)
	case errors.Is(err, store.ErrUserExists), errors.Is(err, store.ErrSwitched):
		return errConflict.withMessage("%v", err)
	}
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			return s.as
		}
	}
	return errInternal
}

// fail is the way out of every handler that cannot answer. What the caller may not know stays in the log; who was refused
// and what broke is worth a line there.
func (g *Gateway) fail(c *gin.Context, err error) {
	p := problemOf(err)
	callOf(c).problem = p.message
	log := g.log.With("remote", c.Request.RemoteAddr, "method", c.Request.Method, "path", c.Request.URL.Path, "status", p.status)
	switch {
	case p.status == http.StatusUnauthorized || p.status == http.StatusForbidden || p.status == http.StatusTooManyRequests:
		log.Warn("call refused", "code", p.code)
	case p.status >= 500 && p.status != http.StatusNotImplemented:
		log.Error("call failed", "err", err)
	}
	c.Abort()
	reply(c, p.status, gin.H{"error": gin.H{"code": p.code, "message": p.message}})
}
