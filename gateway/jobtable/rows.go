package jobtable

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"drydock/job"
)

// Run names the attempt of a job that a row stands for. The zero value is a row that another program wrote.
type Run struct {
	Job     string
	Attempt int
}

// RunOf is the run of a job.
func RunOf(j job.Job) Run { return Run{j.ID, j.Attempt} }

// String is the name of the run as [job.RunName] has it: it sorts by the time the job was due.
func (r Run) String() string { return job.RunName(r.Job, r.Attempt) }

// payload is the payload column: {"drydock":1,"job":"<id>","attempt":<n>}, byte for byte, because rows are found by it;
// behind that may stand ,"args":"<line>" as [job.ArgLine] has it.
type payload struct {
	Drydock int    `json:"drydock"`
	Job     string `json:"job"`
	Attempt int    `json:"attempt"`
	Args    string `json:"args,omitempty"`
}

func (r Run) payload(args string) string {
	text, _ := json.Marshal(payload{1, r.Job, r.Attempt, args}) // a struct of plain fields always encodes
	return string(text)
}

// ofRun finds the row of a run of a task, whatever its arguments are. An id holds nothing that LIKE gives a meaning to.
const ofRun = "task = ? AND (payload = ? OR payload LIKE ?)"

func (r Run) where(task string) []any {
	plain := r.payload("")
	return []any{task, plain, strings.TrimSuffix(plain, "}") + `,"args":%`}
}

func parsePayload(text string) Run {
	var p payload
	if json.Unmarshal([]byte(text), &p) != nil || p.Drydock == 0 {
		return Run{}
	}
	return Run{p.Job, p.Attempt}
}

// Row is one row without its result. Times are zero when the column is NULL.
type Row struct {
	ID     int64
	Task   string
	Server string // the receiver's address
	Port   int
	Done   bool
	State  int // a code of package job
	Run    Run // zero: not drydock's
	Size   int // bytes of result
	Start  time.Time
	End    time.Time
}

// Live reports whether the row still stands for work: available, processing or waiting.
func (r Row) Live() bool {
	return !r.Done && (r.State == job.CodeAvailable || r.State == job.CodeProcessing || r.State == job.CodeWaiting)
}

// String is for messages to people: which row, whose, in which state, since when.
func (r Row) String() string {
	whose := ""
	if r.Run.Job != "" {
		whose = " of run " + r.Run.String()
	}
	s := fmt.Sprintf("row %d%s of task %s, state %d", r.ID, whose, r.Task, r.State)
	if !r.Start.IsZero() {
		s += ", started " + r.Start.UTC().Format(time.RFC3339)
	}
	return s
}

// fields is what [scan] reads. UNIX_TIMESTAMP takes the times out of the server's zone.
const fields = "id, COALESCE(task, ''), COALESCE(server, ''), COALESCE(port, 0), COALESCE(done, 0) <> 0, COALESCE(state, 0), " +
	"COALESCE(payload, ''), COALESCE(LENGTH(result), 0), COALESCE(UNIX_TIMESTAMP(start), 0), COALESCE(UNIX_TIMESTAMP(`end`), 0)"

func scan(row interface{ Scan(...any) error }) (r Row, err error) {
	var text string
	var start, end float64
	err = row.Scan(&r.ID, &r.Task, &r.Server, &r.Port, &r.Done, &r.State, &text, &r.Size, &start, &end)
	r.Run, r.Start, r.End = parsePayload(text), unix(start), unix(end)
	return r, err
}

func unix(s float64) time.Time {
	if s <= 0 {
		return time.Time{}
	}
	return time.Unix(int64(s), 0).UTC()
}

// Rows reads every row by its task. Results are left out, since this is asked again and again; [Table.Result] reads
// one. Errors: [ErrNoTable].
func (t *Table) Rows(ctx context.Context) (map[string]Row, error) {
	out := map[string]Row{}
	rows, err := t.db.QueryContext(ctx, "SELECT "+fields+" FROM "+table+" WHERE task IS NOT NULL ORDER BY id")
	if err != nil {
		return nil, t.wrap("read "+table, err)
	}
	defer rows.Close()
	for rows.Next() {
		r, err := scan(rows)
		if err != nil {
			return nil, t.wrap("read "+table, err)
		}
		out[r.Task] = r
	}
	return out, t.wrap("read "+table, rows.Err())
}

// MaxResult is how much of a result is read: its last bytes.
const MaxResult = 64 << 10

// Result reads the end of the result of a run, as UTF-8, at most [MaxResult] bytes; "" when its row is gone.
func (t *Table) Result(ctx context.Context, task string, run Run) (string, error) {
	var text string
	err := t.db.QueryRowContext(ctx, "SELECT COALESCE(RIGHT(result, ?), '') FROM "+table+" WHERE "+ofRun,
		append([]any{MaxResult}, run.where(task)...)...).Scan(&text)
	if err == sql.ErrNoRows {
		return "", nil
	}
	return strings.ToValidUTF8(text[max(0, len(text)-MaxResult):], "\uFFFD"), t.wrap("read the result of "+task, err)
}

// Insert offers a job to the script of the server and returns the id of its row. address and port are the receiver's;
// a task that streams nothing gives "" and 0, and the row still names an address, since clients pass over a row without
// one (wire.md section 4).
//
// It may be repeated, and called by several processes at once: a row of the same run is adopted, in whatever state it
// is, because a script may have taken and even ended it while drydock was away; while it is available its address is
// brought up to date. A finished row of an older run, or of another program, is replaced.
// Errors: [ErrLiveRow], [ErrOld], [ErrNoTable], and the driver's; after one of the driver's the row may be there.
func (t *Table) Insert(ctx context.Context, j job.Job, address string, port int) (row int64, err error) {
	return t.insert(ctx, j, address, port, false)
}

// Replace is [Table.Insert] for a caller who knows from the log that j is the current job of its slot: a finished row is
// replaced even if the name of its run is newer.
func (t *Table) Replace(ctx context.Context, j job.Job, address string, port int) (row int64, err error) {
	return t.insert(ctx, j, address, port, true)
}

const insertTries = 4

func (t *Table) insert(ctx context.Context, j job.Job, address string, port int, current bool) (row int64, err error) {
	if address == "" {
		address = j.Server.Host
	}
	for range insertTries {
		err = t.inTx(ctx, func(tx *sql.Tx) (err error) {
			row, err = insertTx(ctx, tx, j, address, port, current)
			return err
		})
		if !isNumber(err, erDupEntry, erLockDeadlock) {
			break // else somebody else inserted between our look and our insert: look again
		}
	}
	return row, t.wrap("insert the row of "+j.Task, err)
}

func insertTx(ctx context.Context, tx *sql.Tx, j job.Job, address string, port int, current bool) (int64, error) {
	run := RunOf(j)
	have, err := scan(tx.QueryRowContext(ctx, "SELECT "+fields+" FROM "+table+" WHERE task = ? FOR UPDATE", j.Task))
	switch {
	case err == sql.ErrNoRows:
	case err != nil:
		return 0, err
	case have.Run == run:
		_, err := tx.ExecContext(ctx, "UPDATE "+table+" SET server = ?, port = ? WHERE id = ? AND state = 0 AND done = 0", address, port, have.ID)
		return have.ID, err
	case have.Live():
		return 0, fmt.Errorf("%w: %s", ErrLiveRow, have)
	case !current && have.Run.Job != "" && have.Run.String() > run.String():
		return 0, fmt.Errorf("%w: %s", ErrOld, have)
	default:
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE id = ?", have.ID); err != nil {
			return 0, err
		}
	}
	res, err := tx.ExecContext(ctx, "INSERT INTO "+table+" (task, port, server, done, state, payload, start) VALUES (?, ?, ?, 0, 0, ?, NOW())",
		j.Task, port, address, run.payload(job.ArgLine(j.Args)))
	if err != nil {
		return 0, err
	}
	return res.LastInsertId()
}

// change runs an UPDATE or DELETE on the row of a run and reports whether there was one to change.
func (t *Table) change(ctx context.Context, doing, task string, run Run, stmt, where string, args ...any) (bool, error) {
	args = append(args, run.where(task)...)
	res, err := t.db.ExecContext(ctx, stmt+" WHERE "+ofRun+" AND "+where, args...)
	if err != nil {
		return false, t.wrap(doing+" "+task, err)
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// Abandon ends the row of a run whose job drydock has ended: state 5 with done 0, which every client reads as ended
// (wire.md section 4), and reason as its result. It reports whether the row was live.
func (t *Table) Abandon(ctx context.Context, task string, run Run, reason string) (bool, error) {
	return t.change(ctx, "abandon the row of", task, run,
		"UPDATE "+table+" SET state = 5, done = 0, `end` = NOW(), result = ?", live, reason)
}

// Withdraw deletes the row of a run that nobody took yet, and reports whether it did; false means that a script has it,
// or that there is none.
func (t *Table) Withdraw(ctx context.Context, task string, run Run) (bool, error) {
	return t.change(ctx, "withdraw the row of", task, run, "DELETE FROM "+table, "state = 0 AND done = 0")
}

// Settle writes the verdict of the post-job checks to the row of a run whose script said done: [job.CodeSuccess] or
// [job.CodeFailed]. It reports whether it changed the row. A row whose script never wrote its end is left alone
// unless force is set.
func (t *Table) Settle(ctx context.Context, task string, run Run, code int, force bool) (bool, error) {
	where := "(done = 1 OR state = 3) AND state <> 5"
	if force {
		where = "(done = 1 OR state <> 5)"
	}
	return t.change(ctx, "settle the row of", task, run,
		"UPDATE "+table+" SET state = ?, done = 1, `end` = COALESCE(`end`, NOW())", where, code)
}
