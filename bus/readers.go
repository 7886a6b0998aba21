package bus

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/crypto/bcrypt"
)

// Reader is a user of the embedded server that can only look.
type Reader struct {
	Name    string    `json:"name"`
	Hash    string    `json:"hash"` // of the password, bcrypt
	Created time.Time `json:"created"`
	By      string    `json:"by"`
}

// ReadSubjects are the subjects that readers can subscribe to.
var ReadSubjects = []string{AllTasks, AllJobs, AllLogs, AllAlerts, AllAudit, AllNotifications, AllProgress}

// readable are the streams and buckets whose messages readers can get. BucketKeys and BucketUsers are none of them.
var (
	readableStreams = []string{StreamTasks, StreamJobs, StreamLogs, StreamAlerts, StreamNotifications, StreamAudit, StreamDeadletters}
	readableBuckets = []string{BucketState, BucketCatalog, BucketControl, BucketBinlogs}
)

// ReadRequests are the subjects of the questions that readers can ask: what there is, and one message of it at a time.
// No consumer is made with them: JetStream delivers those of a push consumer to whatever subject it is told, also to those
// by which it is changed.
func ReadRequests() []string {
	out := []string{"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST"}
	streams := slices.Clone(readableStreams)
	for _, b := range readableBuckets {
		stream, _ := BucketStream(b)
		streams = append(streams, stream)
	}
	for _, s := range streams {
		out = append(out, "$JS.API.STREAM.INFO."+s, "$JS.API.STREAM.MSG.GET."+s, "$JS.API.DIRECT.GET."+s, "$JS.API.DIRECT.GET."+s+".>")
	}
	return out
}

// readers keeps who may only look, and their accounts. Each has one of its own, which imports from ours what it may see: an
// answer to a request goes to whatever subject was asked for, and there it reaches nobody else, in our account it could be
// an order.
type readers struct {
	known map[string]Reader
	home  map[string]*server.Account // of the running inner server
}

func readerAccount(name string) string { return "reader " + name }

// SetReaders replaces the readers. The connections of those that are gone, or have another password, end.
func (s *Server) SetReaders(list []Reader) error {
	known := map[string]Reader{}
	for _, r := range list {
		known[r.Name] = r
	}
	s.mu.Lock()
	before, inner := s.readers.known, s.inner
	s.readers.known = known
	err := s.house()
	s.mu.Unlock()
	if inner == nil {
		return err // it restarts, which ends every connection
	}
	for name, was := range before {
		if known[name].Hash == was.Hash {
			continue
		}
		if derr := disconnect(inner, name); derr != nil {
			err = cmp.Or(err, derr)
		}
	}
	return err
}

// disconnect ends the connections of a user.
func disconnect(inner *server.Server, user string) error {
	const most = 10_000
	list, err := inner.Connz(&server.ConnzOptions{Username: true, User: user, Limit: most})
	if err != nil {
		return fmt.Errorf("look for connections of %s: %w", user, err)
	}
	for _, c := range list.Conns {
		_ = inner.DisconnectClientByID(c.Cid) // it fails for one that has ended meanwhile
	}
	return nil
}

// open has the inner server offer what readers may see, and makes the accounts of those that are known. The caller holds mu.
func (s *Server) open() error {
	s.readers.home = map[string]*server.Account{}
	ours := s.inner.GlobalAccount()
	for _, subject := range ReadSubjects {
		if err := ours.AddStreamExport(subject, nil); err != nil {
			return fmt.Errorf("offer %s to readers: %w", subject, err)
		}
	}
	for _, subject := range ReadRequests() {
		if err := ours.AddServiceExport(subject, nil); err != nil {
			return fmt.Errorf("offer %s to readers: %w", subject, err)
		}
	}
	return s.house()
}

// house makes an account for each reader that has none. The caller holds mu.
func (s *Server) house() error {
	if s.inner == nil {
		return nil
	}
	ours := s.inner.GlobalAccount()
	for _, name := range slices.Sorted(maps.Keys(s.readers.known)) {
		if s.readers.home[name] != nil {
			continue
		}
		home, err := s.inner.RegisterAccount(readerAccount(name))
		if err != nil {
			return fmt.Errorf("make the account of reader %s: %w", name, err)
		}
		for _, subject := range ReadSubjects {
			if err := home.AddStreamImport(ours, subject, ""); err != nil {
				return fmt.Errorf("give %s to reader %s: %w", subject, name, err)
			}
		}
		for _, subject := range ReadRequests() {
			if err := home.AddServiceImport(ours, subject, subject); err != nil {
				return fmt.Errorf("give %s to reader %s: %w", subject, name, err)
			}
		}
		s.readers.home[name] = home
	}
	return nil
}

// Check lets a client of the server in (it is the server's CustomClientAuthentication): drydock itself, or a reader.
func (s *Server) Check(c server.ClientAuthentication) bool {
	opts := c.GetOpts()
	if same(opts.Username, s.cfg.User) && same(opts.Password, s.cfg.Password) {
		return true
	}
	s.mu.Lock()
	r, known := s.readers.known[opts.Username]
	home := s.readers.home[opts.Username]
	s.mu.Unlock()
	if !known || home == nil || opts.Username == s.cfg.User || bcrypt.CompareHashAndPassword([]byte(r.Hash), []byte(opts.Password)) != nil {
		return false
	}
	c.RegisterUser(&server.User{
		Username: r.Name, Account: home,
		Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: ReadRequests()},
			Subscribe: &server.SubjectPermission{Allow: append([]string{"_INBOX.>"}, ReadSubjects...)}, // answers, and what happens
		},
	})
	return true
}

// same compares without telling by its time how much is alike.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// ReaderConfig is what a nats-server of its own needs in its configuration for a reader: what [Server.SetReaders] does.
func ReaderConfig(r Reader) string {
	var out strings.Builder
	put := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	put("# DRYDOCK stands for the account that drydock's own user is in. It needs a name: the global account exports nothing, and")
	put("# streams do not move to another account by themselves. Add the exports once, and an account for each reader.")
	put("accounts {")
	put("  DRYDOCK {")
	put("    # jetstream and users as they are")
	put("    exports = [")
	for _, s := range ReadSubjects {
		put("      { stream: %q }", s)
	}
	for _, s := range ReadRequests() {
		put("      { service: %q }", s)
	}
	put("    ]")
	put("  }")
	put("  %q {", readerAccount(r.Name))
	put("    users = [ { user: %q, password: %q, permissions: {", r.Name, r.Hash)
	put("      publish: { allow: %s }", quoted(ReadRequests()))
	put("      subscribe: { allow: %s }", quoted(append([]string{"_INBOX.>"}, ReadSubjects...)))
	put("    } } ]")
	put("    imports = [")
	for _, s := range ReadSubjects {
		put("      { stream: { account: DRYDOCK, subject: %q } }", s)
	}
	for _, s := range ReadRequests() {
		put("      { service: { account: DRYDOCK, subject: %q } }", s)
	}
	put("    ]")
	put("  }")
	put("}")
	return strings.TrimSuffix(out.String(), "\n")
}

func quoted(list []string) string {
	var out []string
	for _, s := range list {
		out = append(out, strconv.Quote(s))
	}
	return "[" + strings.Join(out, ", ") + "]"
}
