package config

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// cronField is one of the six fields in robfig/cron's reading.
type cronField struct {
	name      string
	low, high int
	names     string // three letter names in order, from low on
}

var cronFields = []cronField{
	{"seconds", 0, 59, ""},
	{"minutes", 0, 59, ""},
	{"hours", 0, 23, ""},
	{"day of month", 1, 31, ""},
	{"month", 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"},
	{"day of week", 0, 6, "sunmontuewedthufrisat"},
}

// cronSpecs are the robfig short forms in fields; @every has no fields and no place in a tick ledger.
var cronSpecs = map[string]string{
	"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
	"@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}

// parseCron reads a spec of 5 or 6 fields. Its errors name the field by number, as written, and by meaning; robfig's
// own parser has the last word, so what passes here also passes in the scheduler.
func parseCron(spec string) (*cron.SpecSchedule, error) {
	fields := strings.Fields(spec)
	if len(fields) > 0 && strings.Contains(fields[0], "TZ=") {
		return nil, errors.New("holds a time zone; set scheduler-timezone instead")
	}
	if len(fields) > 0 && strings.HasPrefix(fields[0], "@") {
		if same, ok := cronSpecs[spec]; ok {
			return nil, fmt.Errorf("%q is a short form; write %q", spec, same)
		}
		return nil, fmt.Errorf("%q is a short form; write 5 or 6 fields", clip(spec))
	}
	if len(fields) != 5 && len(fields) != 6 {
		return nil, fmt.Errorf("%q has %d fields; write 5 (minutes first) or 6 (seconds first)", clip(spec), len(fields))
	}
	kinds := cronFields[6-len(fields):]
	for i, text := range fields {
		if err := kinds[i].check(text); err != nil {
			return nil, fmt.Errorf("field %d (%s) %q: %w", i+1, kinds[i].name, clip(text), err)
		}
	}
	parser := cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)
	schedule, err := parser.Parse(strings.Join(fields, " "))
	if err != nil {
		return nil, fmt.Errorf("parse cron spec: %w", err)
	}
	if schedule.Next(time.Unix(0, 0)).IsZero() {
		return nil, fmt.Errorf("%q never fires; no year has that day", clip(spec))
	}
	return schedule.(*cron.SpecSchedule), nil
}

// firesPerMinute counts the seconds at which the schedule may fire within a minute.
func firesPerMinute(s *cron.SpecSchedule) int {
	return bits.OnesCount64(s.Second & (1<<60 - 1))
}

// check reads a comma separated list of *, ?, n, n-m, each with an optional /step.
func (f cronField) check(text string) error {
	for _, item := range strings.Split(text, ",") {
		if err := f.checkItem(item); err != nil {
			return err
		}
	}
	return nil
}

func (f cronField) checkItem(item string) error {
	if item == "" {
		return errors.New("empty item in the list")
	}
	span, step, hasStep := strings.Cut(item, "/")
	if hasStep {
		if n, err := strconv.Atoi(step); err != nil || n < 1 {
			return fmt.Errorf("step %q is not a positive number", step)
		}
	}
	if span == "*" || span == "?" {
		return nil
	}
	lowText, highText, isRange := strings.Cut(span, "-")
	low, err := f.number(lowText)
	if err != nil || !isRange {
		return err
	}
	high, err := f.number(highText)
	if err == nil && low > high {
		return errors.New("range runs backwards")
	}
	return err
}

// number reads one number or name of the field.
func (f cronField) number(text string) (int, error) {
	if i := strings.Index(f.names, strings.ToLower(text)); i >= 0 && i%3 == 0 && len(text) == 3 {
		return f.low + i/3, nil
	}
	n, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a number", clip(text))
	case n < f.low:
		return 0, fmt.Errorf("below minimum %d", f.low)
	case n > f.high && f.name == "day of week":
		return 0, fmt.Errorf("above maximum %d (Sunday is 0)", f.high)
	case n > f.high:
		return 0, fmt.Errorf("above maximum %d", f.high)
	}
	return n, nil
}
