package gateway

import (
	"net/http"
	"sync"

	"github.com/gin-gonic/gin"

	"drydock/job"
)

var releaseMode = sync.OnceFunc(func() { gin.SetMode(gin.ReleaseMode) })

// routes is the whole API in the order of its documents: wire.md section 3, then architecture.md section 4.
func (g *Gateway) routes() http.Handler {
	releaseMode()
	r := gin.New()
	g.engine = r
	r.RedirectTrailingSlash, r.HandleMethodNotAllowed = false, true
	if err := r.SetTrustedProxies(nil); err != nil {
		panic(err) // only for addresses that do not parse, and there are none
	}
	r.Use(g.closeForShell, g.catch, detach)
	r.NoRoute(func(c *gin.Context) { g.fail(c, errNoRoute) })
	r.NoMethod(func(c *gin.Context) { g.fail(c, errMethod) })

	// The dbjobs protocol: every route answers GET and POST alike.
	const server = "/api/clusters/:cluster/servers/:host/:port"
	open := both(r.Group(server, g.findServer, g.readBody))
	job := both(r.Group(server, g.findServer, g.readBody, g.caller, g.viewReady))
	cluster := both(r.Group("/api/clusters/:cluster", g.findCluster, g.readBody, g.channelCaller))

	open("/secret-login", g.secretLogin)
	job("/needs/:task", g.needs)
	cluster("/jobs-log-level/:task/:level", g.logLevel)
	job("/actions/receive-task/:task", g.receiveTask)
	job("/actions/job-state/:task/:state", g.jobState)
	job("/write-log/:task", g.writeLog)
	job("/actions/receive-jobs-check", g.receiveScript)
	job("/actions/send-jobs-upgrade", g.sendScript)
	open("/config", g.mayFetch, g.serverConfig)
	for _, path := range []string{"/need-config-refresh", "/config-receiver", "/config-dummy-sender", "/dbu"} {
		open(path, func(c *gin.Context) { g.fail(c, errNoRoute) }) // asked by newer clients; only the speed of the answer matters
	}

	// What drydock's own script asks beyond the protocol.
	job("/jobs-pending", g.pending)
	job("/actions/heartbeat/:task", g.heartbeat)
	job("/actions/job-result/:id", g.jobResult)
	job("/actions/restore-info/:task", g.restoreInfo)

	// REST, for operators.
	r.GET("/healthz", g.health)
	r.GET("/readyz", g.readiness)
	r.GET("/metrics", g.metrics)
	r.GET("/api/openapi.json", g.openAPI)
	r.POST("/api/login", g.readBody, g.login)

	user := r.Group("/api", g.user)
	user.GET("/clusters", g.listClusters)
	user.GET("/clusters/:cluster/servers", g.listServers)
	act := acts{g, user}
	act.post("/clusters/:cluster/servers/:host/:port/jobs/:task", "run", g.readBody, g.viewReady, g.runOnServer)
	act.post("/clusters/:cluster/jobs/:task", "run", g.readBody, g.viewReady, g.runOnCluster)
	act.post("/clusters/:cluster/servers/:host/:port/actions/reseed/:kind", "reseed", g.readBody, g.reseed)
	act.post("/clusters/:cluster/servers/:host/:port/actions/flashback/:kind", "flashback", g.readBody, g.flashback)
	user.GET("/jobs", g.listJobs)
	user.GET("/jobs/:id", g.showJob)
	act.delete("/jobs/:id", "cancel", g.cancelJob)
	for _, word := range orders {
		act.post("/jobs/:id/"+word, word, g.orderJob(word))
	}
	user.GET("/jobs/:id/log", g.showLog)
	user.GET("/schedules", g.listSchedules)
	user.GET("/ticks", g.listTicks)
	user.GET("/clusters/:cluster/explain/:task", g.explainTask)
	user.GET("/clusters/:cluster/restore/plan", g.planRestore)
	user.GET("/backups", g.listBackups)
	user.GET("/backups/prune", g.planPrune)
	act.post("/backups/:id/pin", "pin", g.readBody, g.pinBackup(true))
	act.delete("/backups/:id/pin", "unpin", g.readBody, g.pinBackup(false))
	user.GET("/alerts", g.listAlerts)
	user.GET("/notifications", g.listNotifications)
	user.GET("/closures", g.listClosures)
	act.delete("/blackouts/:id", "blackout-remove", g.removeBlackout)
	act.post("/alerts/:id/ack", "alert-ack", g.readBody, g.acknowledge)
	act.delete("/alerts/:id/ack", "alert-unack", g.unacknowledge)
	for _, scope := range []string{"", "/clusters/:cluster"} { // the fleet, one cluster
		act.post(scope+"/hold", "hold", g.readBody, g.mayHold, g.setHold)
		act.delete(scope+"/hold", "unhold", g.mayHold, g.liftHold)
		act.post(scope+"/blackouts", "blackout-add", g.readBody, g.mayHold, g.addBlackout)
	}
	act.post("/clusters/:cluster/schedules/:task/off", "schedule-off", g.readBody, g.mayHold, g.knownTask, g.switchOff)
	act.delete("/clusters/:cluster/schedules/:task/off", "schedule-on", g.mayHold, g.knownTask, g.switchOn)
	user.GET("/audit", g.listAudit)
	g.userRoutes(user, act)
	return r
}

// userRoutes are those about users, their tokens and sessions.
func (g *Gateway) userRoutes(user *gin.RouterGroup, act acts) {
	act.post("/logout", "logout", g.logout)
	user.GET("/me", g.me)
	user.GET("/users", g.listUsers)
	act.post("/users", "user-add", g.readBody, g.addUser)
	user.GET("/users/:name", g.showUser)
	act.delete("/users/:name", "user-remove", g.removeUser)
	act.put("/users/:name/grants", "user-grant", g.readBody, g.setGrants)
	act.post("/users/:name/password", "user-passwd", g.readBody, g.setPassword)
	act.post("/users/:name/disable", "user-disable", g.setDisabled(true))
	act.post("/users/:name/enable", "user-enable", g.setDisabled(false))
	act.post("/users/:name/revoke-tokens", "user-revoke-tokens", g.readBody, g.endSessions)
	user.GET("/users/:name/tokens", g.listTokens)
	act.post("/users/:name/tokens", "token-add", g.readBody, g.addToken)
	act.delete("/users/:name/tokens/:token", "token-remove", g.removeToken)
}

// orders are the words of [store.Jobs.Order].
var orders = []string{job.OrderPause, job.OrderResume, job.OrderAbort}

// both registers handlers for GET and POST.
func both(group *gin.RouterGroup) func(path string, h ...gin.HandlerFunc) {
	return func(path string, h ...gin.HandlerFunc) {
		group.GET(path, h...)
		group.POST(path, h...)
	}
}
