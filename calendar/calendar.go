// Package calendar knows the ticks of a cron spec in a time zone: which instants they are, whatever the clock is set to.
//
// It is pure, so that both the scheduler that decides ticks and who explains them afterwards can use it.
package calendar

import (
	"errors"
	"fmt"
	"math/bits"
	"sort"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Calendar is a cron spec in a time zone: a fixed set of instants, its ticks, each on a whole second.
//
// The set depends on the spec and the zone alone, never on when one asks, so that every scheduler
// on a bus, and the same one after a restart, sees the same ticks. Spec and fields are robfig/cron's;
// the search is ours, because robfig's own skips a daily 02:30 in spring, doubles it in autumn, and
// loses 02:00 in Australia/Lord_Howe on the day when its clock goes back by half an hour.
//
// The rule for days when the clock is changed (docs/schedules.md has it with examples):
//
//   - A wall time in a lone hour, one whose neighbours the hour field does not list (2; 2,14; */6), is
//     an appointment. It runs once on each matching local day: at its first occurrence when it occurs
//     twice, at the first moment after the gap when it does not occur. Appointments that fall into one
//     gap are one tick. A local day that does not exist at all has no appointments.
//   - A wall time in neighbouring hours (*; 1-5) belongs to a cadence of an hour or less. It runs each
//     time the clock really shows it: twice in a repeated hour, not at all in a gap.
//
// The zero value is not usable; make one with Parse. A Calendar is immutable and safe for
// concurrent use. It is a cron.Schedule.
type Calendar struct {
	spec  string
	loc   *time.Location
	every int64 // seconds, for @every; 0 for a spec with fields
	days  dayFields
	all   timesOfDay // every listed time of day
	often timesOfDay // those in neighbouring hours: the cadence
	lone  timesOfDay // the others: the appointments
}

var _ cron.Schedule = (*Calendar)(nil)

const (
	daySeconds = 24 * 60 * 60

	// horizon bounds one search. 29 February, the rarest day, comes back after at most eight years.
	horizon = 9 * 366 * daySeconds

	// zoneReach is more than any two offsets of one zone differ, and more than any offset.
	zoneReach = 48 * 60 * 60

	// starBit is set by robfig's parser in a field that was written as * or ?.
	starBit = 1 << 63
)

// The instants between which a Calendar ticks: the years that RFC 3339, and so the ledger, can write.
var (
	firstInstant = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	lastInstant  = time.Date(9999, 12, 30, 0, 0, 0, 0, time.UTC).Unix()
)

// Next returns the first tick strictly after t, in the calendar's zone, or the zero time when there
// is none (31 February).
func (c *Calendar) Next(t time.Time) time.Time {
	at, ok := c.next(clamp(t.Unix()))
	if !ok {
		return time.Time{}
	}
	return time.Unix(at, 0).In(c.loc)
}

// Between returns the ticks in (after, until], oldest first. Only the latest most of them are listed;
// skipped is the number of earlier ones that are not. Both depend on nothing but the arguments.
//
// The work grows with the days in the interval and with most, not with the number of ticks: earlier ticks
// are counted by arithmetic, so an every-second calendar over years is as cheap as a daily one.
func (c *Calendar) Between(after, until time.Time, most int) (ticks []time.Time, skipped int) {
	from, to := clamp(after.Unix()), clamp(until.Unix())
	if to <= from {
		return nil, 0
	}
	total := c.count(from, to)
	listed := min(total, int64(most))
	if listed <= 0 {
		return nil, int(total)
	}
	ticks = make([]time.Time, 0, listed)
	for at := c.startOfLast(listed, from, to); int64(len(ticks)) < listed; {
		next, ok := c.next(at)
		if !ok {
			break
		}
		ticks = append(ticks, time.Unix(next, 0).In(c.loc))
		at = next
	}
	return ticks, int(total - listed)
}

// String returns the spec as it was written, and the zone: "0 30 2 * * * (Europe/Paris)".
func (c *Calendar) String() string {
	return c.spec + " (" + c.loc.String() + ")"
}

// startOfLast returns an instant x in [from, to) such that exactly n ticks lie in (x, to]. There are at
// least n in (from, to]. It looks at growing windows that end at to, so that a long past costs nothing.
func (c *Calendar) startOfLast(n, from, to int64) int64 {
	width := int64(daySeconds)
	for width < to-from && c.count(to-width, to) < n {
		width *= 2
	}
	low := max(from, to-width)
	// The ticks in (x, to] become fewer as x grows; the last x that still has n is one before the first with less.
	fewer := sort.Search(int(to-low), func(i int) bool { return c.count(low+int64(i), to) < n })
	return low + int64(fewer) - 1
}

// next returns the first tick after the instant from.
func (c *Calendar) next(from int64) (int64, bool) {
	if c.every > 0 {
		at := (floorDiv(from, c.every) + 1) * c.every
		return at, at <= lastInstant
	}
	limit := min(from+horizon, lastInstant)
	for s := c.stretchAfter(from, limit); s.start < s.end; s = c.follow(s, limit) {
		if c.gapTick(s) {
			return s.start, true
		}
		if wall, ok := c.nextWall(s.wallStart(), s.again(), c.often); ok {
			return wall - s.offset, true
		}
		if wall, ok := c.nextWall(s.again(), s.wallEnd(), c.all); ok {
			return wall - s.offset, true
		}
	}
	return 0, false
}

// count returns the number of ticks in (from, to].
func (c *Calendar) count(from, to int64) int64 {
	if c.every > 0 {
		return floorDiv(to, c.every) - floorDiv(from, c.every)
	}
	var n int64
	for s := c.stretchAfter(from, to+1); s.start < s.end; s = c.follow(s, to+1) {
		n += c.countWalls(s.wallStart(), s.again(), c.often) + c.countWalls(s.again(), s.wallEnd(), c.all)
		// A tick moved to the end of the gap may meet one that is listed for that very moment.
		if c.gapTick(s) && c.countWalls(s.wallStart(), s.wallStart()+1, c.all) == 0 {
			n++
		}
	}
	return n
}

// A stretch is a time during which the zone's offset stays the same. Instants are Unix seconds; a
// wall is what the local clock shows, written as the Unix seconds of the same reading in UTC.
type stretch struct {
	start, end int64 // instants, [start, end)
	offset     int64 // seconds east of UTC
	high       int64 // the latest wall shown before start: more than start's when the clock went back
}

func (s stretch) wallStart() int64 { return s.start + s.offset }
func (s stretch) wallEnd() int64   { return s.end + s.offset }

// again returns the wall at which the stretch stops repeating what the clock has shown before; without
// a repetition that is its start.
func (s stretch) again() int64 { return min(max(s.wallStart(), s.high+1), s.wallEnd()) }

// stretchAfter returns the stretch that begins with the first second after the instant from. It is empty
// when there is nothing before limit.
func (c *Calendar) stretchAfter(from, limit int64) stretch {
	s := c.stretchAt(from-zoneReach, from+1)
	for s.end <= from {
		s = c.follow(s, from+1)
	}
	return c.follow(s, limit)
}

// follow returns the stretch after s. It ends at limit at the latest.
func (c *Calendar) follow(s stretch, limit int64) stretch {
	next := c.stretchAt(s.end, limit)
	next.high = max(s.high, s.wallEnd()-1)
	return next
}

// stretchAt returns the stretch from an instant to the next change of the zone's offset, or to limit. Its
// high is as if the clock had not been changed before.
func (c *Calendar) stretchAt(start, limit int64) stretch {
	local := time.Unix(start, 0).In(c.loc)
	_, offset := local.Zone()
	s := stretch{start: start, end: limit, offset: int64(offset)}
	s.high = s.wallStart() - 1
	if _, end := local.ZoneBounds(); !end.IsZero() {
		change := end.Unix()
		if change <= start {
			// Beyond the zone file's own table Go gives every year 365 days, so that on 31 December of a leap
			// year the change lies in the past. Nobody changes the clock on that day; go on at its end.
			change = start - floorMod(start, daySeconds) + daySeconds
		}
		s.end = min(s.end, change)
	}
	return s
}

// gapTick reports whether the clock passed over an appointment when it was set to the start of s. A
// day that lies in the gap as a whole was never there, and so were its appointments.
func (c *Calendar) gapTick(s stretch) bool {
	for from := s.high + 1; ; {
		wall, ok := c.nextWall(from, s.wallStart(), c.lone)
		if !ok {
			return false
		}
		day := wall - floorMod(wall, daySeconds)
		if existed := day <= s.high || day+daySeconds > s.wallStart(); existed {
			return true
		}
		from = day + daySeconds
	}
}

// nextWall returns the first wall in [from, to) that lies on a matching day at one of the given times.
func (c *Calendar) nextWall(from, to int64, times timesOfDay) (int64, bool) {
	if from >= to || times.perDay() == 0 {
		return 0, false
	}
	day := from - floorMod(from, daySeconds)
	for date := time.Unix(day, 0).UTC(); ; {
		date = c.days.next(date, to)
		if day = date.Unix(); day >= to {
			return 0, false
		}
		if second, ok := times.next(max(0, from-day)); ok {
			return day + second, day+second < to
		}
		date = date.AddDate(0, 0, 1)
	}
}

// countWalls returns how many walls in [from, to) lie on a matching day at one of the given times.
func (c *Calendar) countWalls(from, to int64, times timesOfDay) int64 {
	if from >= to || times.perDay() == 0 {
		return 0
	}
	var n int64
	day := from - floorMod(from, daySeconds)
	for date := c.days.next(time.Unix(day, 0).UTC(), to); date.Unix() < to; {
		day = date.Unix()
		n += times.before(min(to-day, daySeconds)) - times.before(max(0, from-day))
		date = c.days.next(date.AddDate(0, 0, 1), to)
	}
	return n
}

// dayFields says which days of the civil calendar match. Bit n of a field is set when it lists n.
type dayFields struct {
	dom, month, dow uint64
}

// next returns the first matching day that is not before date; both are midnights in UTC. It gives up at
// the wall until and returns a day that is not before it.
func (d dayFields) next(date time.Time, until int64) time.Time {
	for date.Unix() < until {
		year, month, day := date.Date()
		if d.month&(1<<month) == 0 {
			date = time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC)
			continue
		}
		if d.match(day, date.Weekday()) {
			break
		}
		date = date.AddDate(0, 0, 1)
	}
	return date
}

// match is cron's old rule: when both day fields are restricted, one of them is enough.
func (d dayFields) match(day int, weekday time.Weekday) bool {
	dom, dow := d.dom&(1<<day) != 0, d.dow&(1<<weekday) != 0
	if d.dom&starBit != 0 || d.dow&starBit != 0 {
		return dom && dow
	}
	return dom || dow
}

// timesOfDay is a set of times of day, as the product of three fields. Bit n of a field is set when it
// lists n; other bits are clear.
type timesOfDay struct {
	hours, minutes, seconds uint64
}

// perDay returns the number of times in the set.
func (d timesOfDay) perDay() int64 {
	return ones(d.hours) * ones(d.minutes) * ones(d.seconds)
}

// before returns how many times of the set are earlier than so many seconds after midnight.
func (d timesOfDay) before(second int64) int64 {
	if second >= daySeconds {
		return d.perDay()
	}
	h, m, s := second/3600, second/60%60, second%60
	n := ones(d.hours&below(h)) * ones(d.minutes) * ones(d.seconds)
	if d.hours&(1<<h) == 0 {
		return n
	}
	n += ones(d.minutes&below(m)) * ones(d.seconds)
	if d.minutes&(1<<m) == 0 {
		return n
	}
	return n + ones(d.seconds&below(s))
}

// next returns the first time of a set that is not empty, at or after so many seconds after midnight.
func (d timesOfDay) next(second int64) (int64, bool) {
	if second >= daySeconds {
		return 0, false
	}
	h, m, s := second/3600, second/60%60, second%60
	hour, ok := atLeast(d.hours, h)
	if !ok {
		return 0, false
	}
	if hour == h {
		if minute, ok := atLeast(d.minutes, m); ok {
			if minute > m {
				return hour*3600 + minute*60 + lowest(d.seconds), true
			}
			if sec, ok := atLeast(d.seconds, s); ok {
				return hour*3600 + minute*60 + sec, true
			}
			if minute, ok = atLeast(d.minutes, m+1); ok {
				return hour*3600 + minute*60 + lowest(d.seconds), true
			}
		}
		if hour, ok = atLeast(d.hours, h+1); !ok {
			return 0, false
		}
	}
	return hour*3600 + lowest(d.minutes)*60 + lowest(d.seconds), true
}

// split parts the set by its hours: those of which it also lists the hour before or the hour after (23
// and 0 are neighbours), and the others.
func (d timesOfDay) split() (neighbouring, lone timesOfDay) {
	before, after := d.hours<<1|d.hours>>23&1, d.hours>>1|d.hours&1<<23
	neighbouring, lone = d, d
	neighbouring.hours &= before | after
	lone.hours &^= before | after
	return neighbouring, lone
}

func ones(field uint64) int64   { return int64(bits.OnesCount64(field)) }
func lowest(field uint64) int64 { return int64(bits.TrailingZeros64(field)) }
func below(n int64) uint64      { return 1<<n - 1 }

// atLeast returns the lowest bit of the field that is not below n.
func atLeast(field uint64, n int64) (int64, bool) {
	rest := field &^ below(n)
	return lowest(rest), rest != 0
}

func clamp(instant int64) int64 { return max(firstInstant, min(instant, lastInstant)) }

func floorMod(a, b int64) int64 { return (a%b + b) % b }
func floorDiv(a, b int64) int64 { return (a - floorMod(a, b)) / b }

// A specField is one column of a cron spec.
type specField struct {
	name, allowed string
	option        cron.ParseOption
}

var specFields = []specField{
	{"seconds", "0-59", cron.Second},
	{"minutes", "0-59", cron.Minute},
	{"hours", "0-23", cron.Hour},
	{"day of month", "1-31", cron.Dom},
	{"month", "1-12 or jan-dec", cron.Month},
	{"day of week", "0-6 with 0 for Sunday, or sun-sat", cron.Dow},
}

// Parse reads a cron spec of five fields (minutes to day of week), six (seconds first), or a
// descriptor (@daily, @hourly, "@every 90m"), whose ticks are those of the clock in loc.
//
// "@every d" ticks at the whole multiples of d since 1970-01-01 00:00 UTC, not d after the start of the
// program as robfig's does; d is a Go duration of whole seconds, at least one.
//
// An error names the field by its number, as written, and its name: field 2 (minutes) "61". A spec that
// is well formed but never comes due (31 February) is accepted; its Next is the zero time.
func Parse(spec string, loc *time.Location) (*Calendar, error) {
	if loc == nil {
		return nil, fmt.Errorf("parse cron spec %q: no time zone", spec)
	}
	c := &Calendar{spec: strings.Join(strings.Fields(spec), " "), loc: loc}
	if err := c.parse(); err != nil {
		return nil, fmt.Errorf("parse cron spec %q: %w", spec, err)
	}
	return c, nil
}

func (c *Calendar) parse() error {
	options := cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow
	if strings.HasPrefix(c.spec, "@") {
		options |= cron.Descriptor
	} else if err := checkFields(c.spec); err != nil {
		return err
	}
	schedule, err := cron.NewParser(options).Parse(c.spec)
	if err != nil {
		return err
	}
	switch s := schedule.(type) {
	case *cron.SpecSchedule:
		c.days = dayFields{dom: s.Dom, month: s.Month, dow: s.Dow}
		c.all = timesOfDay{hours: s.Hour &^ starBit, minutes: s.Minute &^ starBit, seconds: s.Second &^ starBit}
		c.often, c.lone = c.all.split()
		return nil
	case cron.ConstantDelaySchedule:
		return c.parseEvery()
	default:
		return fmt.Errorf("unknown kind of schedule %T", schedule)
	}
}

// parseEvery reads the duration again, because robfig's parser rounds it: -5s and 300ms to one second.
func (c *Calendar) parseEvery() error {
	text := strings.TrimPrefix(c.spec, "@every ")
	d, err := time.ParseDuration(text)
	if err != nil {
		return err
	}
	if d < time.Second || d%time.Second != 0 {
		return fmt.Errorf("duration %q: must be whole seconds, one at least", text)
	}
	c.every = int64(d / time.Second)
	return nil
}

// checkFields finds the field that is wrong; robfig's parser does not say which it was. It also keeps
// away from that parser what makes it panic (a TZ= prefix without a space).
func checkFields(spec string) error {
	if strings.HasPrefix(spec, "TZ=") || strings.HasPrefix(spec, "CRON_TZ=") {
		return errors.New("a time zone in the spec is not supported, use scheduler-timezone")
	}
	fields := strings.Fields(spec)
	columns := specFields
	switch len(fields) {
	case 0:
		return errors.New("empty")
	case len(specFields):
	case len(specFields) - 1:
		columns = specFields[1:]
	default:
		return fmt.Errorf("found %d fields, want 5 (minutes first) or 6 (seconds first)", len(fields))
	}
	for i, column := range columns {
		if err := column.check(fields[i]); err != nil {
			return fmt.Errorf("field %d (%s) %q: %w; allowed are %s", i+1, column.name, fields[i], err, column.allowed)
		}
	}
	return nil
}

func (f specField) check(text string) error {
	for _, r := range text {
		if !strings.ContainsRune("*?,-/", r) && (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z') {
			return fmt.Errorf("unexpected character %q", r)
		}
	}
	if strings.Trim(text, ",") == "" {
		return errors.New("no value")
	}
	_, err := cron.NewParser(f.option).Parse(text)
	return err
}
