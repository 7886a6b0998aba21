package web

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"drydock/bus"
	"drydock/gateway/auth"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

// TestTenThousandServersAreNoLongPage: the fleet's page stays short, and making it stays cheap, however large the fleet.
func TestTenThousandServersAreNoLongPage(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t)
	a, err := auth.New([]byte("0123456789abcdef0123456789abcdef"), auth.Config{Users: map[string]string{"dba": "secret12"}, Grants: map[string][]string{"dba": {"db"}}})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Log: slog.New(slog.DiscardHandler)}
	for c := range 200 {
		cl := Cluster{Name: fmt.Sprintf("c%03d", c), Mode: job.API}
		for s := range 50 {
			cl.Servers = append(cl.Servers, job.Server{Host: fmt.Sprintf("db%02d.c%03d.example.com", s, c), Port: 3306})
		}
		cfg.Clusters = append(cfg.Clusters, cl)
	}
	stop := make(chan struct{})
	w, err := New(cfg, Deps{
		Conn: conn, View: store.NewView(conn), Control: store.NewControl(conn), Docs: store.NewDocs(conn), Catalog: store.NewCatalog(conn),
		Jobs: store.NewJobs(conn, "test", nil), Ledger: store.NewLedger(conn, "test"), Verify: a.Verify, API: http.NotFoundHandler(),
		Changed: func() <-chan struct{} { return nil }, Grant: func(job.Task) string { return auth.Backup },
	}, stop)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for i, c := range cfg.Clusters {
		for n, s := range c.Servers {
			for d := range 10 {
				id := fmt.Sprintf("%03d-%02d-%02d", i, n, d)
				w.model.backups[id] = &store.Manifest{ID: id, Cluster: c.Name, Server: s, Ended: now.AddDate(0, 0, -d), Size: 1}
			}
			w.model.take(job.Job{ID: fmt.Sprint(i, n), Cluster: c.Name, Server: s, Task: "mariabackup", State: job.Halted, Since: now}, job.Cut, job.Processing, now)
		}
		w.model.alert(fmt.Sprint("drydock.alert.", c.Name), bus.Alert{State: bus.AlertOpened, Severity: bus.SeverityWarn, Cluster: c.Name, Code: "DOCK0503"})
	}
	token, err := a.Login("dba", "secret12")
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.AddCookie(&http.Cookie{Name: "drydock", Value: token})
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, r)
		return rec
	}
	for _, path := range []string{"/", "/timeline", "/maintenance/c007", "/backups", "/conditions"} {
		began := time.Now()
		rec := get(path)
		took := time.Since(began)
		t.Logf("%-20s %8d bytes in %s", path, rec.Body.Len(), took)
		if rec.Code != http.StatusOK || rec.Body.Len() > 600_000 {
			t.Errorf("%s: %d, %d bytes", path, rec.Code, rec.Body.Len())
		}
	}
}
