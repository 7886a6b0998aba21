package main

import (
	"fmt"
	"time"

	"drydock/app"
)

// parsePoint reads --to: a time without a zone is one of this machine's clock.
func parsePoint(text string) (app.Point, error) {
	p, err := app.ParsePoint(text, time.Local)
	if err != nil {
		return p, fmt.Errorf("--to: %w", err)
	}
	return p, nil
}
