package binlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"drydock/job"
	"drydock/store"
)

var (
	srvA = job.Server{Host: "10.0.0.1", Port: 3306}
	srvB = job.Server{Host: "10.0.0.2", Port: 3306}
	noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
)

// piece is a segment of n seconds that was taken at a minute.
func piece(s job.Server, file string, minute int, start, end int64, before, after string) store.Segment {
	taken := noon.Add(time.Duration(minute) * time.Minute)
	return store.Segment{
		Cluster: "prod", Server: s, File: file, Log: "log" + file, Flavor: store.FlavorMariaDB, Created: taken, Taken: taken, Start: start, End: end,
		Bound: end, Before: before, After: after, Stream: before, Own: after, First: taken, Last: taken.Add(30 * time.Second),
	}
}

// follows makes each go on from the one before.
func follows(list ...store.Segment) []store.Segment {
	for i := range list[1:] {
		list[i+1].Prev = list[i].ID()
	}
	return list
}

// A false gap makes people blind for real ones; a gap that is not seen is a restore that silently lacks something.
func TestGapsAreThoseThatAre(t *testing.T) {
	whole := func() []store.Segment {
		return follows(piece(srvA, "b.1", 0, 0, 100, "", "0-1-5"), piece(srvA, "b.1", 1, 100, 200, "0-1-5", "0-1-9"),
			piece(srvA, "b.2", 2, 0, 50, "0-1-9", "0-1-9"), piece(srvA, "b.2", 3, 50, 90, "0-1-9", "0-1-12"))
	}
	switched := func(before string) []store.Segment {
		return append(whole(), piece(srvB, "b.1", 4, 0, 40, before, "0-2-20"))
	}
	tests := map[string]struct {
		list []store.Segment
		gaps []string // what each says
	}{
		"whole":                      {whole(), nil},
		"any order":                  {[]store.Segment{whole()[2], whole()[0], whole()[3], whole()[1]}, nil},
		"one missing":                {slices.Delete(whole(), 1, 2), []string{"is missing"}},
		"one lost":                   {lose(whole(), 1), []string{"is missing"}},
		"the newest lost":            {lose(whole(), 3), nil}, // the server is asked for it again
		"the oldest pruned":          {whole()[1:], nil},
		"on another server":          {switched("0-1-12"), nil},
		"on another server, not all": {switched("0-1-14"), []string{"to go on after 0-1-14"}},
		"overlapping, of two receivers": {append(whole(), func() store.Segment {
			s := piece(srvA, "b.2", 4, 80, 120, "0-1-11", "0-1-15")
			s.Prev = whole()[3].ID()
			return s
		}()), nil},
		"a hole in a log": {append(whole(), func() store.Segment {
			s := piece(srvA, "b.2", 4, 95, 120, "0-1-12", "0-1-15")
			s.Prev = whole()[3].ID()
			return s
		}()), []string{"from 90 to 95"}},
		"two of the same piece": {append(whole(), func() store.Segment {
			s := piece(srvA, "b.2", 4, 50, 90, "0-1-9", "0-1-12")
			s.Prev = whole()[2].ID()
			return s
		}()), nil},
		"a gap that was found": {append(whole(), func() store.Segment {
			s := piece(srvA, "b.9", 4, 0, 90, "0-1-30", "0-1-31")
			s.Gap = &store.Gap{Reason: "purged"}
			return s
		}()), []string{"purged"}},
		"nothing": {nil, nil},
	}
	for name, tt := range tests {
		gaps := store.BinlogGaps(tt.list)
		if len(gaps) != len(tt.gaps) {
			t.Errorf("%s: %+v", name, gaps)
			continue
		}
		for i, want := range tt.gaps {
			if !strings.Contains(gaps[i].Reason, want) {
				t.Errorf("%s: %q, want %q", name, gaps[i].Reason, want)
			}
		}
	}
}

func lose(list []store.Segment, i int) []store.Segment {
	list[i].Lost = "the file is missing"
	return list
}

func TestCoverageSaysHowFarItLeads(t *testing.T) {
	list := follows(piece(srvA, "b.1", 0, 0, 100, "", "0-1-5"), piece(srvA, "b.1", 1, 100, 200, "0-1-5", "0-1-9"))
	reset := piece(srvA, "b.1", 10, 0, 80, "", "0-1-7")
	reset.Log, reset.Gap = "another", &store.Gap{Reason: "reset"}
	list = append(list, reset)
	at := func(minute int) time.Time { return noon.Add(time.Duration(minute) * time.Minute) }
	tests := map[string]struct {
		base Base
		gtid string // where it leads; empty: refused
		gap  bool
		n    int
	}{
		"from the beginning":         {Base{Server: srvA, File: "b.1", Pos: 4, Time: at(0)}, "0-1-9", true, 2},
		"from a GTID":                {Base{GTID: "0-1-6", Time: at(1)}, "0-1-9", true, 1},
		"from the end of a stretch":  {Base{GTID: "0-1-9", Time: at(2)}, "0-1-9", true, 1},
		"the same name, later":       {Base{Server: srvA, File: "b.1", Pos: 40, Time: at(11)}, "0-1-7", false, 1},
		"behind the reset":           {Base{GTID: "0-1-2", Time: at(11)}, "0-1-7", false, 1},
		"before the reset, soon":     {Base{GTID: "0-1-9", Time: at(9).Add(30 * time.Second)}, "0-1-9", true, 1},
		"with a domain of its own":   {Base{GTID: "0-1-6,9-9-9", Time: at(1)}, "0-1-9", true, 1},
		"of a log that is not there": {Base{Server: srvA, File: "b.2", Pos: 4, Time: at(1)}, "", false, 0},
		"of another server":          {Base{Server: srvB, File: "b.1", Pos: 4, Time: at(1)}, "", false, 0},
		"newer than the archive":     {Base{GTID: "0-1-99", Time: at(12)}, "", false, 0},
	}
	for name, tt := range tests {
		span, err := Coverage(list, tt.base)
		if tt.gtid == "" {
			if !errors.Is(err, ErrReach) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || span.GTID != tt.gtid || (span.Gap != nil) != tt.gap || len(span.Segments) != tt.n {
			t.Errorf("%s: leads to %q over %d segments, gap %v: %v", name, span.GTID, len(span.Segments), span.Gap, err)
		}
	}
}

// What no base needs may go; what one might need may not, and never the segment that the archive goes on from.
func TestNeedlessIsWhatNoBaseNeeds(t *testing.T) {
	list := follows(piece(srvA, "b.1", 0, 0, 100, "", "0-1-5"), piece(srvA, "b.1", 1, 100, 200, "0-1-5", "0-1-9"),
		piece(srvA, "b.2", 2, 0, 50, "0-1-9", "0-1-12"), piece(srvA, "b.3", 3, 0, 50, "0-1-12", "0-1-15"))
	tests := map[string]struct {
		bases []Base
		n     int
	}{
		"no base":                    {nil, 0},
		"the oldest counts":          {[]Base{{GTID: "0-1-13"}, {GTID: "0-1-6"}}, 1},
		"a young base":               {[]Base{{GTID: "0-1-13"}}, 3},
		"a base newer than all":      {[]Base{{GTID: "0-1-99", Time: noon.Add(time.Hour)}}, 3},
		"a base without a beginning": {[]Base{{Server: srvB, File: "x", Pos: 4, Time: noon.Add(2 * time.Minute)}}, 1},
		"a base before all":          {[]Base{{Server: srvB, File: "x", Pos: 4, Time: noon.Add(-time.Hour)}}, 0},
	}
	for name, tt := range tests {
		if got := Needless(list, tt.bases); len(got) != tt.n {
			t.Errorf("%s: %d segments are needless, want %d", name, len(got), tt.n)
		}
	}
}

// A disk that does not answer for a moment makes its segments lost. They must be there when it does again.
func TestALostSegmentThatABackupNeedsIsNotNeedless(t *testing.T) {
	list := lose(follows(piece(srvA, "b.1", 0, 0, 100, "", "0-1-5"), piece(srvA, "b.2", 5, 0, 100, "0-1-5", "0-1-9"), piece(srvA, "b.3", 10, 0, 100, "0-1-9", "0-1-12")), 1)
	got := Needless(list, []Base{{GTID: "0-1-7", Time: noon.Add(6 * time.Minute)}})
	if len(got) != 1 || got[0].File != "b.1" {
		t.Errorf("needless are %d: %+v", len(got), got)
	}
}

// Numbers may jump and go back inside one stream; where streams meet a hole must be seen.
func TestJoinerFindsWhatIsMissingBetweenTwoServers(t *testing.T) {
	tests := map[string]struct {
		have, before string
		come         string // what comes
		fresh        string // what of that is new
		fails        bool
	}{
		"goes on":                      {"0-1-5", "0-1-5", "0-2-6 0-2-7", "0-2-6 0-2-7", false},
		"once more, then on":           {"0-1-5", "0-1-3", "0-1-4 0-1-5 0-2-6", "0-2-6", false},
		"without what it replicated":   {"0-1-5", "", "0-2-6", "0-2-6", false},
		"a hole":                       {"0-1-5", "0-1-3", "0-2-7", "", true},
		"another transaction there":    {"0-1-5", "0-1-3", "0-1-4 0-2-5", "", true},
		"numbers jump in a stream":     {"0-1-5", "0-1-5", "0-1-9 0-1-20", "0-1-9 0-1-20", false},
		"numbers go back in a stream":  {"0-1-5", "0-1-5", "0-1-9 0-2-7 0-1-10", "0-1-9 0-2-7 0-1-10", false},
		"a new domain":                 {"0-1-5", "0-1-5", "7-1-100 0-1-6", "7-1-100 0-1-6", false},
		"two domains, one behind":      {"0-1-5,1-1-8", "0-1-5,1-1-6", "1-1-7 0-1-6 1-1-8 1-2-9", "0-1-6 1-2-9", false},
		"two domains, a hole in one":   {"0-1-5,1-1-8", "0-1-5,1-1-6", "0-1-6 1-1-10", "0-1-6", true},
		"the beginning of all history": {"", "", "0-1-1 0-1-2", "0-1-1 0-1-2", false},
	}
	for name, tt := range tests {
		j := joiner{state: stateOf(tt.have)}
		j.stream(stateOf(tt.before))
		var fresh []string
		var err error
		for _, text := range strings.Fields(tt.come) {
			g, _ := ParseGTID(text)
			var isNew bool
			if isNew, err = j.take(g); err != nil {
				break
			}
			if isNew {
				fresh = append(fresh, text)
			}
			j.done(g)
		}
		if (err != nil) != tt.fails || strings.Join(fresh, " ") != tt.fresh {
			t.Errorf("%s: new are %v: %v", name, fresh, err)
		}
	}
}

// Where an archive goes on decides whether something is lost without a word.
func TestDecideWhereToGoOn(t *testing.T) {
	last := piece(srvA, "b.3", 0, 0, 500, "0-1-5", "0-1-9")
	last.Log = "three"
	heads := map[string]head{"b.1": {sum: "one", had: stateOf("")}, "b.2": {sum: "two", had: stateOf("0-1-2")},
		"b.3": {sum: "three", had: stateOf("0-1-5")}, "b.4": {sum: "four", had: stateOf("0-1-9")}, "b.5": {sum: "five", had: stateOf("0-1-20")}}
	with := func(change map[string]head) func(string) (head, error) {
		return func(f string) (head, error) {
			if h, ok := change[f]; ok {
				return h, nil
			}
			return heads[f], nil
		}
	}
	files := func(names ...string) (out []logFile) {
		for _, n := range names {
			out = append(out, logFile{n, 1000})
		}
		return out
	}
	tests := map[string]struct {
		shelf  shelf
		first  bool // the archive is empty
		file   string
		resume bool
		joins  bool
		gap    string
	}{
		"nothing archived yet":                     {shelf{server: srvA, files: files("b.2", "b.3")}, true, "b.2", false, false, ""},
		"in the same log":                          {shelf{server: srvA, files: files("b.2", "b.3", "b.4")}, false, "b.3", true, true, ""},
		"the log is shorter now":                   {shelf{server: srvA, files: []logFile{{"b.3", 400}, {"b.4", 100}}}, false, "b.4", false, false, "lost transactions in a crash"},
		"another log of the name":                  {shelf{server: srvA, files: files("b.1", "b.2", "b.3"), head: with(map[string]head{"b.3": {sum: "x"}})}, false, "b.1", false, false, "reset"},
		"purged, but all archived":                 {shelf{server: srvA, files: files("b.4", "b.5")}, false, "b.4", false, true, ""},
		"purged":                                   {shelf{server: srvA, files: files("b.5")}, false, "b.5", false, false, "purged"},
		"purged, the archive has another's domain": {shelf{server: srvA, files: files("b.4")}, false, "b.4", false, true, ""},
		"reset to fewer logs":                      {shelf{server: srvA, files: files("b.1")}, false, "b.1", false, false, "reset"},
		"on the new primary":                       {shelf{server: srvB, files: files("b.1", "b.2", "b.3"), current: stateOf("0-2-12")}, false, "b.3", false, false, ""},
		"on the new primary, in an older log":      {shelf{server: srvB, files: files("b.2", "b.5"), current: stateOf("0-2-30")}, false, "b.2", false, false, ""},
		"on the new primary, purged":               {shelf{server: srvB, files: files("b.5"), current: stateOf("0-2-30")}, false, "b.5", false, false, "begins after 0-1-20"},
		"on the new primary, which lacks some":     {shelf{server: srvB, files: files("b.2"), current: stateOf("0-1-8")}, false, "b.2", false, false, "transactions were lost"},
	}
	for name, tt := range tests {
		archive := []store.Segment{last}
		if tt.first {
			archive = nil
		}
		if strings.Contains(name, "another's domain") {
			last := last
			last.After += ",7-3-3" // of a server that was the primary before, and never came here
			archive = []store.Segment{last}
		}
		s := tt.shelf
		s.mariadb = true
		if s.head == nil {
			s.head = with(nil)
		}
		at, err := decide(archive, s, noon)
		if err != nil || at.file != tt.file || (at.resume != nil) != tt.resume || at.joins != tt.joins {
			t.Errorf("%s: %+v %v", name, at, err)
		}
		if gap := at.gap; (gap != nil) != (tt.gap != "") || gap != nil && !strings.Contains(gap.Reason, tt.gap) {
			t.Errorf("%s: the gap is %+v, want %q", name, gap, tt.gap)
		}
	}
}

// A crash may cut a segment anywhere: what was whole stays, and nothing else is believed.
func TestCutSegmentKeepsItsWholeFrames(t *testing.T) {
	sign := func(s store.Segment) (store.Segment, error) { return s, nil }
	s := piece(srvA, "b.1", 0, 0, 0, "", "")
	s.Path = filepath.Join(t.TempDir(), "x", s.Name())
	f, err := createSegment(s, sign)
	if err != nil {
		t.Fatal(err)
	}
	ends := []int64{f.seg.Stored}
	for i := range 3 {
		fr := frame{End: int64(100 * (i + 1)), After: "0-1-1"}
		encoded, err := encodeFrame(fr, bytes.Repeat([]byte{byte(i)}, 100), "zstd", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.append(fr, encoded, 100); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, f.seg.Stored)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadFile(s.Path)
	if err != nil {
		t.Fatal(err)
	}
	for size := range int64(len(all)) + 1 {
		if err := os.WriteFile(s.Path, all[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		whole := 0
		for i, e := range ends {
			if size >= e {
				whole = i
			}
		}
		got, ok, err := recoverSegment(s.Path, sign)
		if err != nil || ok != (whole > 0) || ok && (got.End != int64(100*whole) || got.Stored != ends[whole]) {
			t.Fatalf("cut to %d of %d bytes: %v %v, end %d, want %d frames", size, len(all), ok, err, got.End, whole)
		}
		if _, err := os.Stat(s.Path); errors.Is(err, os.ErrNotExist) != !ok {
			t.Fatalf("cut to %d bytes: %v", size, err)
		}
		_ = os.Remove(s.Path + ManifestSuffix)
	}
	// A frame that was signed and is damaged is no crash: nothing is cut off behind it.
	bad := bytes.Clone(all)
	bad[ends[1]-3] ^= 1
	signed := f.seg
	if err := os.WriteFile(s.Path, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeManifest(signed); err != nil {
		t.Fatal(err)
	}
	got, ok, err := recoverSegment(s.Path, sign)
	if info, statErr := os.Stat(s.Path); err != nil || !ok || got.End != 300 || statErr != nil || info.Size() != int64(len(all)) {
		t.Errorf("a damaged frame in the middle: %v %v, end %d", ok, err, got.End)
	}
}

// The folder is searched for segments at each start. A file of somebody else, or a segment whose beginning is spoiled, must outlive that.
func TestForeignFileIsNoCutSegment(t *testing.T) {
	for name, text := range map[string]string{"another": "notes of mine", "spoiled": "XRYDOCKBINLOG1\n{}\n", "zeros": "\x00\x00"} {
		path := filepath.Join(t.TempDir(), name+".binlog")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, ok, err := recoverSegment(path, unsignedSegment)
		if kept, readErr := os.ReadFile(path); ok || !errors.Is(err, ErrDamaged) || readErr != nil || string(kept) != text {
			t.Errorf("%s: %v %v, and the file has %q %v", name, ok, err, kept, readErr)
		}
	}
}

func unsignedSegment(s store.Segment) (store.Segment, error) { return s, nil }

// After a write that failed nobody knows what stands in the file. What is written behind it would be signed and could not be read.
func TestNothingIsWrittenBehindAFailedWrite(t *testing.T) {
	s := piece(srvA, "b.1", 0, 0, 0, "", "")
	s.Path = filepath.Join(t.TempDir(), s.Name())
	f, err := createSegment(s, unsignedSegment)
	if err != nil {
		t.Fatal(err)
	}
	good := f.file
	defer good.Close()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	f.file = full
	if err := f.append(frame{End: 100}, []byte("a frame"), 7); err == nil {
		t.Fatal("a full disk took a frame")
	}
	f.file = good
	if err := f.append(frame{End: 100}, []byte("a frame"), 7); err == nil {
		t.Error("a frame was added behind one that failed")
	}
	if info, err := os.Stat(s.Path); err != nil || info.Size() != f.seg.Stored || f.seg.End != 0 {
		t.Errorf("the file: %v %v, the segment says %d bytes up to %d", info, err, f.seg.Stored, f.seg.End)
	}
}

// A segment comes from a disk: whatever it holds, reading it ends with an error or with what was written.
func FuzzFrames(f *testing.F) {
	line, _ := json.Marshal(piece(srvA, "b.1", 0, 0, 100, "", ""))
	encoded, _ := encodeFrame(frame{End: 100}, []byte("events"), "none", nil)
	f.Add(append(append([]byte(frameMagic), append(line, '\n')...), encoded...))
	f.Add([]byte(frameMagic + "{}\n{\"stored\":9223372036854775807}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := newFrameReader(bytes.NewReader(data))
		if _, err := r.head(); err != nil {
			return
		}
		for {
			if _, _, err := r.next(); err != nil {
				if r.read > int64(len(data)) {
					t.Errorf("%d bytes were read of %d", r.read, len(data))
				}
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrDamaged) {
					t.Error(err)
				}
				return
			}
		}
	})
}

// Events come over the network: none may end the process.
func FuzzEvents(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\xa2\x01\x00\x00\x00\x2a\x00\x00\x00\x2a\x00\x00\x00\x00\x00aaaaaaaaaaaaaaaaaaaaaaa"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		if len(data) < headerLen {
			return
		}
		for _, sum := range []byte{0, checksumCRC32} {
			g := group{format: format{checksum: sum}}
			_, _ = parseFormat(data)
			_, _, _ = g.format.rotate(data)
			_, _ = g.format.gtidList(data)
			_ = g.format.check(data)
			_, _ = g.next(data)
			_ = g.format.statement(data)
		}
	})
}

// A point that is read as another one restores what nobody asked for.
func TestThePointOfAReplayIsReadOrRefused(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 26, 2, 41, 0, 0, time.UTC)
	for text, want := range map[string]Until{
		"0-1-42": {GTID: "0-1-42"}, "0-1-42,1-1-7": {GTID: "0-1-42,1-1-7"}, at.Format(time.RFC3339): {Time: at}, "2026-11-26T03:41:00+01:00": {Time: at},
		"": {}, ",": {}, "0-1": {}, "2026-11-26 02:41:00": {}, "now": {}, "0-1-42;": {},
	} {
		got, err := ParseUntil(text)
		if (err == nil) != (want != Until{}) || got.GTID != want.GTID || !got.Time.Equal(want.Time) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}
