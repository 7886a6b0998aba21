package main

import (
	"fmt"
	"regexp"
	"time"
)

var gtidList = regexp.MustCompile(`^\d+-\d+-\d+(,\d+-\d+-\d+)*$`)

// parsePoint reads a point in time: a GTID, or a time, which without a zone is one of this machine's clock.
func parsePoint(text string) (at time.Time, gtid string, err error) {
	if gtidList.MatchString(text) {
		return at, text, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04"} {
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return at, "", nil
		}
	}
	return at, "", fmt.Errorf("read --to %q: it is a time as 2026-11-26T03:00:00Z or \"2026-11-26 03:00:00\", or a GTID as 0-1-42", text)
}

// before is when a backup must have ended to be the base; the zero time is now.
func (o *recoveryOrder) before() (time.Time, error) {
	if o.to == "" {
		return time.Time{}, nil
	}
	at, gtid, err := parsePoint(o.to)
	if gtid != "" {
		return at, fmt.Errorf("choose a backup that ended before %s: when that was is not known; name the backup", gtid)
	}
	return at, err
}
