package gateway

import (
	"net/http"
	"strconv"
	"sync"

	"github.com/gin-gonic/gin"

	"drydock/bus"
	"drydock/explain"
	"drydock/gateway/openapi"
	"drydock/job"
	"drydock/restore"
	"drydock/store"
)

//go:generate go test -run "^(TestOpenAPIDocumentIsCurrent|TestTableOfCallersIsCurrent)$" -update

// openAPI answers the document of the API. It asks for no login: it says what stands in drydock's documents, and nothing of this
// installation.
func (g *Gateway) openAPI(c *gin.Context) {
	doc, err := apiDocument()
	if err != nil {
		g.fail(c, err)
		return
	}
	c.Header("Content-Length", strconv.Itoa(len(doc)))
	c.Data(http.StatusOK, "application/json; charset=utf-8", doc)
}

// apiDocument is docs/openapi.json.
var apiDocument = sync.OnceValues(func() ([]byte, error) {
	return openapi.Document(openapi.Info{
		Title: "drydock", Version: "1",
		Description: "The REST API of drydock for operators (docs/rest.md), and the routes of the scripts on the database hosts (docs/protocol.md).",
	}, append(restOperations(), dbjobsOperations()...))
})

func param(name, about string) openapi.Param { return openapi.Param{Name: name, About: about} }

var (
	byCluster = param("cluster", "name of a cluster; all that one may see without it")
	byServer  = param("server", "host or host:port")
	byTask    = param("task", "name of a task")
	bySince   = param("since", "a time such as 2026-11-22T01:00:00Z or a duration such as 36h; 7 days without it")
	byLimit   = param("limit", "1 to 10000, newest first; 200 without it")
	byForce   = param("force", "1 runs it in spite of a hold or blackout (grant cluster-hold)")
	byConfirm = param("confirm", "1 does it although it stops or replaces something")
	runParams = []openapi.Param{
		byForce, byConfirm, param(job.ArgSnapshot, "of zfssnapback"), param(job.ArgSkip, "of rolling operations: HOST:PORT,..."), param(job.ArgBackup, "of backupdrill and backupverify: id"),
	}
)

const (
	tagFleet  = "clusters and servers"
	tagJobs   = "jobs"
	tagShut   = "holds, blackouts, switches"
	tagBackup = "backups"
	tagAlerts = "conditions"
	tagUsers  = "users"
	tagHealth = "health"
	tagHost   = "scripts on database hosts"
)

// restOperations describes the routes of operators, in the order of routes.
func restOperations() []openapi.Operation {
	const server = "/api/clusters/:cluster/servers/:host/:port"
	get := func(path, tag, summary string, answer any, query ...openapi.Param) openapi.Operation {
		return openapi.Operation{Method: "GET", Path: path, Tag: tag, Summary: summary, Answer: answer, Query: query}
	}
	post := func(path, tag, summary string, body, answer any, query ...openapi.Param) openapi.Operation {
		return openapi.Operation{Method: "POST", Path: path, Tag: tag, Summary: summary, Body: body, Answer: answer, Query: query}
	}
	remove := func(path, tag, summary string, answer any) openapi.Operation {
		return openapi.Operation{Method: "DELETE", Path: path, Tag: tag, Summary: summary, Answer: answer}
	}
	with := func(op openapi.Operation, change func(*openapi.Operation)) openapi.Operation {
		change(&op)
		return op
	}
	open := func(op *openapi.Operation) { op.Open = true }
	accepted := func(op *openapi.Operation) { op.Status = http.StatusAccepted }
	created := func(op *openapi.Operation) { op.Status = http.StatusCreated }
	type o = openapi.Object

	ops := []openapi.Operation{
		with(get("/healthz", tagHealth, "Whether the process serves", o{"status": "", "version": ""}), open),
		with(get("/readyz", tagHealth, "Whether calls can be served", o{"status": ""}), func(op *openapi.Operation) {
			op.Open, op.Other = true, map[int]any{http.StatusServiceUnavailable: o{"status": "", "missing": []string{}}}
		}),
		{Method: "GET", Path: "/metrics", Tag: tagHealth, Summary: "Metrics for Prometheus (docs/metrics.md)", Text: "the exposition format", Basic: true},
		with(get("/api/openapi.json", tagHealth, "This document", o{"openapi": "", "paths": map[string]any{}}), open),
		with(post("/api/login", tagUsers, "Log in", loginRequest{}, tokenAnswer{}), open),
		get("/api/clusters", tagFleet, "The clusters that one may see", o{"clusters": []clusterInfo{}}),
		get("/api/clusters/:cluster/servers", tagFleet, "Servers of a cluster, with the last job of each task", o{"servers": []serverInfo{}}),
		get("/api/clusters/:cluster/explain/:task", tagJobs, "Why a task ran or did not", explain.Explanation{},
			param("at", "a time, or a duration before now; what is around it is looked at"), param("within", "a duration: how much is looked at")),
		with(post(server+"/jobs/:task", tagJobs, "Run a task on a server now", nil, runAnswer{}, runParams...), accepted),
		with(post("/api/clusters/:cluster/jobs/:task", tagJobs, "Run a task on a cluster now", nil, runAnswer{}, runParams...), accepted),
		with(post(server+"/actions/reseed/:kind", tagJobs, "Replace the data of a server", restoreBody{}, restoreAnswer{}, byForce), accepted),
		with(post(server+"/actions/flashback/:kind", tagJobs, "Bring a server back to one of its backups", restoreBody{}, restoreAnswer{}, byForce), accepted),
		get("/api/jobs", tagJobs, "Jobs, newest first", o{"jobs": []job.Job{}}, byCluster, byServer, byTask, param("state", "a state of a job"), bySince, byLimit),
		get("/api/jobs/:id", tagJobs, "One job", job.Job{}),
		remove("/api/jobs/:id", tagJobs, "Cancel a job", job.Job{}),
	}
	for _, word := range orders {
		ops = append(ops, post("/api/jobs/:id/"+word, tagJobs, "Order a rolling operation to "+word, nil, job.Job{}))
	}
	ops = append(ops,
		get("/api/jobs/:id/log", tagJobs, "What the worker of a job wrote", o{"job": "", "state": job.State(""), "lines": []logLine{}},
			param("follow", "1 answers text/event-stream: the events log, state and end (docs/rest.md)")),
		get("/api/schedules", tagJobs, "Every schedule and its next ticks", o{"schedules": []bus.ScheduleInfo{}}),
		get("/api/ticks", tagJobs, "The ledger: what was due and what became of it", o{"ticks": []bus.Tick{}}, byCluster, byTask, bySince, byLimit),
		get("/api/backups", tagBackup, "Backups, newest first, of any age without since", backupsAnswer{}, byCluster, byServer, byTask, bySince, byLimit,
			param("retention", "1 adds what the next prune would do with each, as far as the receivers have said (retention_pending: more may come); takes a cluster")),
		get("/api/backups/prune", tagBackup, "What a prune would keep and delete now", o{"plan": []bus.PlanItem{}}, byCluster, byServer, byTask),
		get("/api/clusters/:cluster/restore/plan", tagBackup, "What a restore would do, by what the bus knows", restore.Plan{},
			param("server", "HOST:PORT, whose newest good backup"), param("backup", "id, in its place"), param("to", "a point in time: a time, or a GTID"),
			param("to-server", "HOST:PORT that gets the data"), param("to-directory", "folder of the receiver's machine that gets them"),
			param("no-replication", "1 leaves the server at the backup's point")),
		post("/api/backups/:id/pin", tagBackup, "Keep a backup whatever the rules say", pinRequest{}, store.Manifest{}),
		remove("/api/backups/:id/pin", tagBackup, "Let the rules decide again", store.Manifest{}),
		get("/api/alerts", tagAlerts, "Conditions that hold now", o{"alerts": []alertAnswer{}}, byCluster, byServer, byTask, bySince, byLimit, param("all", "1 answers when which opened and closed")),
		get("/api/notifications", tagAlerts, "What was sent to whom", o{"notifications": []bus.Notification{}}, param("destination", "name"), bySince, byLimit),
		post("/api/alerts/:id/ack", tagAlerts, "Acknowledge a condition, by its name or the id of its edge", ackRequest{}, store.OpenCondition{}),
		remove("/api/alerts/:id/ack", tagAlerts, "Take that back", store.OpenCondition{}),
		get("/api/closures", tagShut, "Holds and blackouts", store.Closures{}),
		remove("/api/blackouts/:id", tagShut, "Remove a blackout", store.Blackout{}),
	)
	for _, scope := range []string{"", "/clusters/:cluster"} {
		what := map[bool]string{true: "the fleet", false: "a cluster"}[scope == ""]
		ops = append(ops,
			post("/api"+scope+"/hold", tagShut, "Hold "+what, holdRequest{}, store.Hold{}),
			remove("/api"+scope+"/hold", tagShut, "Lift the hold of "+what, store.Hold{}),
			with(post("/api"+scope+"/blackouts", tagShut, "Add a blackout of "+what, blackoutRequest{}, store.Blackout{}), created),
		)
	}
	ops = append(ops,
		post("/api/clusters/:cluster/schedules/:task/off", tagShut, "Switch a schedule off: its ticks are skipped", switchRequest{}, bus.Switch{}),
		remove("/api/clusters/:cluster/schedules/:task/off", tagShut, "Switch a schedule on again", bus.Switch{}),
	)
	user := func(path, summary string, body any) openapi.Operation {
		return post("/api/users/:name/"+path, tagUsers, summary, body, store.UserInfo{})
	}
	return append(ops,
		get("/api/audit", tagUsers, "Who changed what", o{"audit": []bus.Audit{}}, byCluster, param("user", "name"), param("verb", "what was done"), bySince, byLimit),
		post("/api/logout", tagUsers, "End this session", nil, o{"ended": true}),
		get("/api/me", tagUsers, "The caller", meAnswer{}),
		get("/api/users", tagUsers, "Users", o{"users": []store.UserInfo{}}),
		with(post("/api/users", tagUsers, "Add a user", userRequest{}, store.UserInfo{}), created),
		get("/api/users/:name", tagUsers, "One user", store.UserInfo{}),
		remove("/api/users/:name", tagUsers, "Remove a user", store.UserInfo{}),
		openapi.Operation{Method: "PUT", Path: "/api/users/:name/grants", Tag: tagUsers, Summary: "Replace all grants of a user", Body: grantsRequest{}, Answer: store.UserInfo{}},
		user("password", "Set a password", passwordRequest{}),
		user("disable", "Disable a user", nil),
		user("enable", "Enable a user", nil),
		user("revoke-tokens", "End all sessions, and API tokens when asked", revokeRequest{}),
		get("/api/users/:name/tokens", tagUsers, "API tokens of a user", o{"tokens": []store.TokenInfo{}}),
		with(post("/api/users/:name/tokens", tagUsers, "Make an API token for oneself; it is shown here only", tokenRequest{}, newToken{}), created),
		remove("/api/users/:name/tokens/:token", tagUsers, "Revoke an API token, by id or name", store.TokenInfo{}),
	)
}

// alertAnswer is an entry of GET /api/alerts: with all=1 an edge, which has neither name nor acknowledgement.
type alertAnswer struct {
	bus.Alert
	Condition string     `json:"condition,omitempty"`
	Ack       *store.Ack `json:"ack,omitempty"`
}

// dbjobsOperations describes the routes of the scripts, each for GET and POST.
func dbjobsOperations() (ops []openapi.Operation) {
	const server = "/api/clusters/:cluster/servers/:host/:port"
	both := func(op openapi.Operation) {
		op.Tag, op.Secret = tagHost, true
		for _, method := range []string{"GET", "POST"} {
			op.Method = method
			if method == "GET" {
				op.Secret = false // a body is read there, too, but OpenAPI has none for GET
			}
			ops = append(ops, op)
			op.Secret = true
		}
	}
	line := func(path, summary, text string, also ...int) {
		both(openapi.Operation{Path: path, Summary: summary, Text: text, Also: also})
	}
	const no = http.StatusInternalServerError
	both(openapi.Operation{Path: server + "/secret-login", Summary: "A token for who knows the database password", Answer: tokenAnswer{}, Open: true})
	line(server+"/needs/:task", "Whether a task waits to be done", "true, or false with status 500", no)
	line("/api/clusters/:cluster/jobs-log-level/:task/:level", "Whether lines of a level are wanted", "true, or false with status 500", no)
	line(server+"/actions/receive-task/:task", "Where to stream to", "RECEIVER_PORT=4001 or NO_RECEIVER_NEEDED")
	line(server+"/actions/job-state/:task/:state", "Report how a job stands", "true")
	line(server+"/write-log/:task", "Hand in lines of a log", "true, when they are on disk")
	line(server+"/actions/receive-jobs-check", "Where to stream the script to, to have it compared", "RECEIVER_PORT=4001")
	line(server+"/actions/send-jobs-upgrade", "Have the script sent", "true")
	both(openapi.Operation{Path: server + "/config", Summary: "The script and its environment for a database container", Text: "a tar archive, packed with gzip", Media: "application/gzip", Basic: true})
	line(server+"/jobs-pending", "All that waits for a server, in one call", "lines of words (docs/protocol.md)")
	line(server+"/actions/heartbeat/:task", "Say that a job lives", "ok, or stop when it has ended")
	line(server+"/actions/job-result/:id", "What became of a job", "its state in one word")
	line(server+"/actions/restore-info/:task", "What is to be restored from", "lines of a name and a value (docs/protocol.md)")
	return ops
}
