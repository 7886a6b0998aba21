// Package jobtable is the SQL side of dispatch: the table replication_manager_schema.jobs of one database server
// (maintenance.txt section 6.1.2.1, wire.md section 4).
//
// It owns the statements: the layout of the table and its upgrade, and how a row is inserted, read and ended so that
// no live row is ever overwritten and no end of one job is written to the row of another. It knows nothing of the bus;
// what a row means for a job is the caller's business.
//
// Everything runs with sql_log_bin=0, so nothing of it is in the binary log, and with short lock and network timeouts,
// so that neither a backup lock nor a dead host holds the caller. Rows are addressed by task and run, never by id
// alone: UNIQUE(task) makes that exact, and an id may come again after the table was dropped or the server restarted.
package jobtable
