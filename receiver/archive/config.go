package archive

import (
	"cmp"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"drydock/job"
)

// Config is what a [Worker] works from.
type Config struct {
	Name     string // of this receiver, as manifests have it
	DataDir  string // monitoring-datadir: restic's cache goes there
	Log      *slog.Logger
	Clusters []Cluster
}

// Cluster is one cluster of a [Config].
type Cluster struct {
	Name    string
	Servers []job.Server
	On      bool // backup-restic; without it the jobs of the cluster fail with that reason
	Repository
	Keep        Keep
	CheckSubset string // backup-restic-check-subset, empty = structure only
}

// Repository is where restic keeps a cluster's archive, and how to get in.
type Repository struct {
	Binary      string // backup-restic-binary-path
	Location    string // backup-restic-repository, as restic spells it
	Password    string // backup-restic-password
	AWSKey      string // backup-restic-aws-access-key-id, with backup-restic-aws
	AWSSecret   string
	Args        []string      // backup-restic-additional-args
	Timeout     time.Duration // backup-restic-timeout, of one job
	UploadKiB   int           // backup-restic-limit-upload, KiB/s, 0 = no limit
	DownloadKiB int           // backup-restic-limit-download
	CacheDir    string        // filled from DataDir
}

// Keep says how many snapshots of each server and task stay. The newest always does.
type Keep struct{ Last, Hourly, Daily, Weekly, Monthly, Yearly int }

// args are the flags of `restic forget`; ok is false when the keys keep nothing on purpose, and then nothing is forgotten.
func (k Keep) args() (flags []string, ok bool) {
	for _, n := range []struct {
		flag string
		n    int
	}{{"hourly", k.Hourly}, {"daily", k.Daily}, {"weekly", k.Weekly}, {"monthly", k.Monthly}, {"yearly", k.Yearly}} {
		if n.n > 0 {
			flags = append(flags, "--keep-"+n.flag, strconv.Itoa(n.n))
		}
	}
	ok = k.Last > 0 || len(flags) > 0
	return append(flags, "--keep-last", strconv.Itoa(max(1, k.Last))), ok
}

// passedOn are the variables of drydock's environment that restic gets: where programs, certificates and proxies are. All
// others may hold secrets of somebody else.
var passedOn = []string{
	"PATH", "HOME", "TMPDIR", "TZ", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
	"http_proxy", "https_proxy", "no_proxy", "SSH_AUTH_SOCK",
}

// environ is the whole environment of restic. Secrets and the repository, whose URL may hold a password, go nowhere else.
func (r Repository) environ() []string {
	var env []string
	for _, name := range passedOn {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	env = append(env, "RESTIC_REPOSITORY="+r.Location, "RESTIC_PASSWORD="+r.Password, "RESTIC_PROGRESS_FPS=1",
		"RESTIC_CACHE_DIR="+r.CacheDir)
	if r.AWSKey != "" {
		env = append(env, "AWS_ACCESS_KEY_ID="+r.AWSKey, "AWS_SECRET_ACCESS_KEY="+r.AWSSecret)
	}
	return env
}

// flags stand in every call of restic.
func (r Repository) flags() []string {
	var out []string
	if r.UploadKiB > 0 {
		out = append(out, "--limit-upload", strconv.Itoa(r.UploadKiB))
	}
	if r.DownloadKiB > 0 {
		out = append(out, "--limit-download", strconv.Itoa(r.DownloadKiB))
	}
	return slices.Concat(out, r.Args)
}

// Local is the folder of a repository in the file system; ok is false for any other.
func (r Repository) Local() (dir string, ok bool) {
	if rest, found := strings.CutPrefix(r.Location, "local:"); found {
		return rest, true
	}
	scheme, _, remote := strings.Cut(r.Location, ":")
	if remote && slices.Contains([]string{"sftp", "s3", "gs", "azure", "swift", "rest", "rclone", "b2"}, scheme) {
		return "", false
	}
	return r.Location, true
}

// Shown is the location without the password that a URL may hold.
func (r Repository) Shown() string { return r.redact(r.Location) }

const hidden = "***"

// redact takes every secret out of a text. It also knows a secret in the spelling of a URL.
func (r Repository) redact(s string) string {
	for _, secret := range []string{r.Password, r.AWSSecret, r.urlPassword()} {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, hidden)
			s = strings.ReplaceAll(s, url.QueryEscape(secret), hidden)
		}
	}
	return s
}

// urlPassword is what stands between user: and @ of the location, as written there.
func (r Repository) urlPassword() string {
	_, rest, ok := strings.Cut(r.Location, "://")
	authority, _, _ := strings.Cut(rest, "/")
	at := strings.LastIndexByte(authority, '@')
	if !ok || at < 0 {
		return ""
	}
	_, password, _ := strings.Cut(authority[:at], ":")
	return password
}

// ready fills what the configuration leaves open.
func (r Repository) ready(dataDir string) Repository {
	r.Binary = cmp.Or(r.Binary, "restic")
	r.CacheDir = filepath.Join(dataDir, "restic-cache")
	if dir, local := r.Local(); local { // restic runs elsewhere than drydock
		if abs, err := filepath.Abs(dir); err == nil {
			r.Location = abs
		}
	}
	if abs, err := filepath.Abs(r.CacheDir); err == nil {
		r.CacheDir = abs
	}
	if r.Timeout <= 0 {
		r.Timeout = 24 * time.Hour
	}
	return r
}
