package main

import (
	"fmt"
	"regexp"
	"time"

	"drydock/app"
)

var gtidList = regexp.MustCompile(`^\d+-\d+-\d+(,\d+-\d+-\d+)*$`)

// parsePoint reads a point in time: a GTID, or a time, which without a zone is one of this machine's clock. Empty is none.
func parsePoint(text string) (app.Point, error) {
	switch {
	case text == "":
		return app.Point{}, nil
	case isDate(text): // which looks like a GTID
		return app.Point{}, fmt.Errorf("read --to %q: say the time of that day, too, as in \"%s 00:00\"", text, text)
	case gtidList.MatchString(text):
		return app.Point{GTID: text}, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04"} {
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return app.Point{Time: at}, nil
		}
	}
	return app.Point{}, fmt.Errorf("read --to %q: it is a time as 2026-11-26T03:00:00Z or \"2026-11-26 03:00:00\", or a GTID as 0-1-42", text)
}

func isDate(text string) bool {
	_, err := time.Parse(time.DateOnly, text)
	return err == nil
}
