package gateway

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"drydock/job"
)

// restoreInfo tells drydock's own script, line by line, what the restore is about that it has taken: which backup comes,
// how large it is and, once all of it was sent and compared with its manifest, its SHA-256. A stream alone proves nothing
// (docs/protocol.md).
func (g *Gateway) restoreInfo(c *gin.Context) {
	k := callOf(c)
	task, err := job.TaskByName(c.Param("task"))
	if err != nil {
		g.fail(c, err)
		return
	}
	j, ok := g.View.Get(k.key(task.Name))
	if !ok || task.Flow != job.FlowOut || !j.State.Live() || k.id.Job != "" && (j.ID != k.id.Job || j.Attempt != k.id.Attempt) {
		g.fail(c, errConflict.withMessage("no such %s job of this server is live", task.Name))
		return
	}
	from, err := job.ParseServer(j.Args[job.ArgFrom])
	if err != nil {
		g.fail(c, errConflict.withMessage("the job names no backup"))
		return
	}
	m, err := g.Catalog.Get(c.Request.Context(), j.Cluster, from, j.Args[job.ArgBackup])
	if err != nil {
		g.fail(c, restoreProblem(err))
		return
	}
	var b strings.Builder
	line := func(key string, value any) {
		if text := fmt.Sprint(value); text != "" {
			fmt.Fprintf(&b, "%s %s\n", key, strings.Map(printable, text))
		}
	}
	b.WriteString("drydock 1\n")
	line("job", fmt.Sprintf("%s %d", j.ID, j.Attempt))
	line("backup", m.ID)
	line("tool", m.Task)
	line("from", m.Server.Addr())
	line("size", m.Size)
	line("gtid", m.GTID)
	line("binlog", strings.TrimSpace(fmt.Sprintf("%s %d", m.BinlogFile, m.BinlogPos)))
	line("primary", j.Args[job.ArgPrimary])
	if s := j.Stream; s != nil && s.Complete {
		line("sha256", s.Hash)
	} else if s != nil {
		line("failed", s.Err)
	}
	text(c, http.StatusOK, b.String())
}

// printable keeps a value on its line.
func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return ' '
	}
	return r
}
