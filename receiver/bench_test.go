package receiver

import (
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/job"
	"drydock/receiver/sink"
	"drydock/xbstream"
)

// BenchmarkFormatCheck measures what the check of the format costs while a real physical stream arrives: the stream of
// mariadb-backup over loopback TCP into a durable file, by the sink alone and with the check, in turn. "ratio" is the median
// of the paired ratios of their speeds (1 is no cost), "plain" and "checked" are medians; "best-ratio" compares the fastest
// of each, which a machine with other work disturbs least. TMPDIR says which disk it is about.
func BenchmarkFormatCheck(b *testing.B) {
	m := mariadbdtest.Start(b, mariadbd.Options{Password: "secret"})
	if err := mariadbd.Generate(b.Context(), m, 64<<20, nil); err != nil {
		b.Fatal(err)
	}
	stream, err := os.Create(b.TempDir() + "/stream")
	if err != nil {
		b.Fatal(err)
	}
	defer stream.Close()
	cmd := exec.CommandContext(b.Context(), "mariadb-backup", "--defaults-file="+m.ConfigFile(), "--backup", "--stream=xbstream",
		"--target-dir="+b.TempDir(), "--user="+m.User(), "--password="+m.Password(), "--socket="+m.Socket())
	cmd.Stdout = stream
	if err := cmd.Run(); err != nil {
		b.Fatal(err)
	}
	info, err := stream.Stat()
	if err != nil {
		b.Fatal(err)
	}
	size := float64(info.Size())
	var plain, checked, ratio []float64
	cpu := map[bool][]float64{} // seconds for each GB, the sender's included
	for b.Loop() {
		seconds := map[bool]float64{}
		for i := range 2 {
			with := (len(ratio)+i)%2 == 0 // who comes first changes
			before := cpuTime(b)
			seconds[with] = received(b, stream, with).Seconds()
			cpu[with] = append(cpu[with], (cpuTime(b)-before).Seconds()/size*1e9)
		}
		plain, checked = append(plain, size/1e6/seconds[false]), append(checked, size/1e6/seconds[true])
		ratio = append(ratio, seconds[false]/seconds[true])
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(size/1e6, "MB")
	b.ReportMetric(median(plain), "plain-MB/s")
	b.ReportMetric(median(checked), "checked-MB/s")
	b.ReportMetric(median(ratio), "ratio")
	b.ReportMetric(median(cpu[false]), "plain-cpu-s/GB")
	b.ReportMetric(median(cpu[true]), "checked-cpu-s/GB")
	b.ReportMetric(slices.Max(checked)/slices.Max(plain), "best-ratio")
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// cpuTime is what this process has used so far.
func cpuTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// received takes the stream once as a reservation does, and says how long that took, until it was durable.
func received(b *testing.B, stream *os.File, check bool) time.Duration {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	out, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	in, err := ln.Accept()
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	sent := make(chan error, 1) // one result: the sender never waits for the reader of it
	go func() {
		_, err := io.Copy(out, io.NewSectionReader(stream, 0, 1<<62))
		_ = out.Close()
		sent <- err
	}()
	spec := sink.Spec{Dir: b.TempDir(), Name: "bench", Tag: "t", Hash: sink.BLAKE3}
	began := time.Now()
	f, err := sink.Create(spec)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Abort() }()
	var from io.Reader = &idleReader{in.(*net.TCPConn), time.Minute}
	var checker checker
	if check {
		checker = xbstream.New()
		from = io.TeeReader(from, checker)
	}
	if err := f.Receive(b.Context(), from, nil); err != nil {
		b.Fatal(err)
	}
	if _, err := f.Finish(); err != nil {
		b.Fatal(err)
	}
	if format, broken := verdictOf(checker); broken || check && format != job.FormatGood {
		b.Fatal(format)
	}
	took := time.Since(began)
	if err := <-sent; err != nil {
		b.Fatal(err)
	}
	if err := sink.Discard(spec); err != nil {
		b.Fatal(err)
	}
	return took
}
