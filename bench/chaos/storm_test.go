package main

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// A real drydock, database and script are struck twenty times: no promise may have to be broken for the program to go on.
// Only what stands still for a long time is an error, so a loaded machine makes it slow and not red.
func TestPromisesHoldInAShortStorm(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "drydock")
	if out, err := exec.Command("go", "build", "-o", binary, "drydock/cmd/drydock").CombinedOutput(); err != nil {
		t.Fatalf("build drydock: %v\n%s", err, out)
	}
	r, err := chaos(t.Context(), options{
		seed: 20, steps: 20, bound: 8 * time.Minute, mode: "api", binary: binary, script: "../../scripts/dbjobs", pace: brisk, progress: t.Logf,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", r.markdown())
	for _, v := range r.Verdict.Violations {
		t.Errorf("%s: %s", v.Promise, v)
	}
	if r.Dealt < 15 || r.Acked == 0 || r.Verdict.Ends["success"] == 0 { // some find nothing to strike
		t.Errorf("%d blows dealt, %d log lines acknowledged, %d jobs a success: too little was shown", r.Dealt, r.Acked, r.Verdict.Ends["success"])
	}
}
