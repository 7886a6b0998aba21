package mariadbdtest

import (
	"testing"
	"time"

	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
)

// oldEnough is an uptime after which a restart shows: uptimes are whole seconds, so of two starts within two of them nobody
// can say from SQL alone whether they are one.
const oldEnough = 3

// Settle waits until a restart of the servers can be seen from their uptime.
func Settle(t testing.TB, servers ...*mariadbd.Server) {
	t.Helper()
	for _, s := range servers {
		db, err := s.DB()
		if err != nil {
			t.Fatal(err)
		}
		bustest.Until(t, time.Minute, "uptime of "+s.Addr(), func() bool {
			var name string
			var uptime int
			err := db.QueryRowContext(t.Context(), "SHOW GLOBAL STATUS LIKE 'Uptime'").Scan(&name, &uptime)
			return err == nil && uptime >= oldEnough
		})
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}
