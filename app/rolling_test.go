package app

import (
	"os"
	"path/filepath"
	"testing"

	"drydock/config"
)

func TestAHookThatCannotBeRunIsFoundBeforehand(t *testing.T) {
	t.Parallel()
	good, plain := filepath.Join(t.TempDir(), "good"), filepath.Join(t.TempDir(), "plain")
	for path, mode := range map[string]os.FileMode{good: 0o755, plain: 0o644} {
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	c := config.Cluster{Name: "prod", Rolling: config.Rolling{PreScript: good, PostScript: plain}}
	if got := checkHooks(c); len(got) != 1 || got[0].Status != Fail || got[0].Name != "prod: rolling-post-script" {
		t.Errorf("%+v", got)
	}
}
