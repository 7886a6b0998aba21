package job

import "testing"

func TestArgLineHasNoBlanksAndQuotesOfItsOwn(t *testing.T) {
	t.Parallel()
	got := ArgLine(map[string]string{"snapshot": `a b"c'%=&:x`, "backup": "one"})
	if got != "backup=one snapshot=a%20b%22c%27%25%3D%26%3Ax" || ArgLine(nil) != "" {
		t.Errorf("got %q", got)
	}
}

func TestCheckArgsKnowsEachTasksOwn(t *testing.T) {
	t.Parallel()
	back, optimize := Task{Name: "zfssnapback"}, Task{Name: "optimize"}
	for _, good := range []string{"auto-1", "2026-01-02_03:04", "a.b"} {
		if err := CheckArgs(back, map[string]string{ArgSnapshot: good}); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "-r", "tank/db@a", "a b", "$(x)"} {
		if CheckArgs(back, map[string]string{ArgSnapshot: bad}) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if CheckArgs(optimize, map[string]string{ArgSnapshot: "a"}) == nil || CheckArgs(back, map[string]string{"x": "a"}) == nil {
		t.Error("an argument of another task is taken")
	}
}
