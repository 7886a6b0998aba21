package config

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"drydock/window"
)

// key is a row of the table bound to the variable it fills.
type key struct {
	Key
	// parse checks v and stores it; on error the variable keeps its former value. The error never holds a secret.
	parse func(v value, r resolver) error
}

// resolver turns a written secret into the secret itself; see loader.resolve.
type resolver func(written string) (Secret, error)

// table collects rows of one scope. Each helper below sets the default at once and appends one row.
type table struct {
	scope Scope
	group string
	keys  []key
}

func (t *table) add(k Key, parse func(v value, r resolver) error) {
	k.Scope, k.Group = t.scope, t.group
	t.keys = append(t.keys, key{k, parse})
}

// plain adds a row whose value is one string.
func (t *table) plain(k Key, parse func(s string) error) {
	t.add(k, func(v value, _ resolver) error { return parse(v.text()) })
}

func (t *table) text(name string, p *string, def, values, doc string, checks ...func(string) error) {
	*p = def
	t.plain(Key{Name: name, Values: values, Default: def, Doc: doc}, func(s string) error {
		s = strings.TrimSpace(s)
		for _, check := range append(checks, noControl) {
			if err := check(s); err != nil {
				return err
			}
		}
		*p = s
		return nil
	})
}

func (t *table) boolean(name string, p *bool, def bool, doc string) {
	*p = def
	t.plain(Key{Name: name, Values: "true or false", Default: fmt.Sprint(def), Doc: doc}, func(s string) error {
		return store(p)(parseBool(s))
	})
}

// bounds limits a number; max 0 = none. zero, when not empty, permits 0 and says what it means.
type bounds[T cmp.Ordered] struct {
	min, max T
	zero     string
}

func (t *table) number(name string, p *int, def int, b bounds[int], values, doc string) {
	*p = def
	t.plain(Key{Name: name, Values: values, Default: fmt.Sprint(def), Doc: doc}, func(s string) error {
		return store(p)(parseNumber(s, b.min, b.max))
	})
}

func (t *table) duration(name string, p *time.Duration, def time.Duration, b bounds[time.Duration], doc string) {
	*p = def
	values := "a duration"
	if b.min > 0 {
		values += ", at least " + formatDuration(b.min)
	}
	if b.zero != "" {
		values += ", 0 = " + b.zero
	}
	t.plain(Key{Name: name, Values: values, Default: formatDuration(def), Doc: doc}, func(s string) error {
		d, err := parseDuration(s)
		if err != nil {
			return err
		}
		if d == 0 && b.zero != "" {
			*p = 0
			return nil
		}
		if d < b.min {
			return fmt.Errorf("%q is too short; give at least %s", clip(s), formatDuration(b.min))
		}
		*p = d
		return nil
	})
}

func (t *table) size(name string, p *int64, def int64, doc string) {
	*p = def
	t.plain(Key{Name: name, Values: "a size, at least 1MiB", Default: formatSize(def), Doc: doc}, func(s string) error {
		n, err := parseSize(s)
		if err == nil && n < mib {
			err = fmt.Errorf("%q is too small; give at least 1MiB", s)
		}
		return store(p)(n, err)
	})
}

// freeSpace adds a size that may be 0.
func (t *table) freeSpace(name string, p *int64, def int64, doc string) {
	*p = def
	t.plain(Key{Name: name, Values: "a size, 0 = none", Default: formatSize(def), Doc: doc}, func(s string) error {
		return store(p)(parseSize(s))
	})
}

// ratio adds a number from 0 to 1; 0 switches off what it is for.
func (t *table) ratio(name string, p *float64, def float64, doc string) {
	*p = def
	t.plain(Key{Name: name, Values: "0 to 1, 0 = off", Default: strconv.FormatFloat(def, 'g', -1, 64), Doc: doc}, func(s string) error {
		f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
		if err != nil || !(f >= 0 && f <= 1) { // also for what is no number
			return fmt.Errorf("%q is not a number from 0 to 1", clip(s))
		}
		*p = f
		return nil
	})
}

// stream adds the two limits of one stream.
func (t *table) stream(name string, p *Limit, def Limit, what string) {
	// Below an hour a stream could forget a message while its job still runs.
	t.duration("nats-"+name+"-max-age", &p.MaxAge, def.MaxAge, bounds[time.Duration]{min: time.Hour, zero: "no limit by age"},
		"Age limit of "+what+".")
	t.size("nats-"+name+"-max-bytes", &p.MaxBytes, def.MaxBytes, "Space for "+what+".")
}

// alias is a second spelling of a permitted value.
type alias struct{ from, to string }

func (t *table) enum(name string, p *string, def string, values []string, doc string, aliases ...alias) {
	*p = def
	t.plain(Key{Name: name, Values: strings.Join(values, ", "), Default: def, Doc: doc}, func(s string) error {
		for _, a := range aliases {
			if s == a.from {
				s = a.to
			}
		}
		return store(p)(oneOf(s, values))
	})
}

func (t *table) choices(name string, p *[]string, def, values []string, doc string) {
	*p = def
	k := Key{Name: name, Values: "list out of " + strings.Join(values, ", "), Default: strings.Join(def, ","), Doc: doc}
	t.add(k, func(v value, _ resolver) error {
		var out []string
		for _, item := range v.split() {
			one, err := oneOf(item, values)
			if err != nil {
				return err
			}
			if slices.Contains(out, one) {
				return fmt.Errorf("%q stands there twice; remove one", one)
			}
			out = append(out, one)
		}
		if len(out) == 0 {
			return fmt.Errorf("is empty; name at least one of %s", strings.Join(values, ", "))
		}
		*p = out
		return nil
	})
}

// words adds a list of any words.
func (t *table) words(name string, p *[]string, values, doc string) {
	t.add(Key{Name: name, Values: values, Doc: doc}, func(v value, _ resolver) error {
		list := v.split()
		for _, word := range list {
			if err := noControl(word); err != nil {
				return err
			}
		}
		*p = list
		return nil
	})
}

// execTasks are the tasks that scheduler-jobs-exec-remote may name: those of the table in maintenance.txt 6.1.8.5.
var execTasks = []string{
	"optimize", "mysqldump", "mydumper", "stop", "start", "restart",
	"mariabackup", "xtrabackup", "errorlog", "slowquery", "auditlog", "sqlerrorlog", "zfssnapback",
	"reseedmariabackup", "reseedxtrabackup", "flashbackmariabackup", "flashbackxtrabackup",
}

// execRemote adds a list of tasks that is nil when it is empty, which means something else than naming none.
func (t *table) execRemote(name string, p *[]string, doc string) {
	*p = nil
	t.add(Key{Name: name, Values: "list of tasks, or none", Doc: doc}, func(v value, _ resolver) error {
		var out []string
		for _, item := range v.split() {
			one, err := oneOf(item, append([]string{"none"}, execTasks...))
			if err != nil {
				return err
			}
			out = append(out, one)
		}
		if slices.Contains(out, "none") {
			if len(out) > 1 {
				return fmt.Errorf("names none and tasks; write one or the other")
			}
			out = []string{}
		}
		*p = out
		return nil
	})
}

func (t *table) logLevel(name string, p *slog.Level, def slog.Level, doc string) {
	*p = def
	levels := []string{"debug", "info", "warn", "error"}
	k := Key{Name: name, Values: strings.Join(levels, ", "), Default: strings.ToLower(def.String()), Doc: doc}
	t.plain(k, func(s string) error {
		s, err := oneOf(s, levels)
		if err != nil {
			return err
		}
		return p.UnmarshalText([]byte(s))
	})
}

// schedule adds the switch and the cron spec of one task.
func (t *table) schedule(name string, p *Schedule, cron, doc string) {
	t.boolean(name, &p.Enabled, false, doc)
	p.Cron = cron
	k := Key{Name: name + "-cron", Values: "a cron spec of 5 or 6 fields", Default: cron, Doc: "When " + name + " fires."}
	t.plain(k, func(s string) error {
		if _, err := parseCron(s); err != nil {
			return err
		}
		p.Cron = strings.Join(strings.Fields(s), " ")
		return nil
	})
}

func (t *table) timezone(name string, p **time.Location, def *time.Location, doc string) {
	*p = def
	k := Key{Name: name, Values: "an IANA name such as Europe/Paris, UTC or Local", Default: "Local", Doc: doc}
	t.plain(k, func(s string) error {
		// LoadLocation takes "" for UTC; somebody who wrote nothing meant nothing.
		loc, err := time.LoadLocation(s)
		if err != nil || s == "" {
			return fmt.Errorf("%q is no known time zone; give an IANA name such as Europe/Paris", clip(s))
		}
		*p = loc
		return nil
	})
}

func (t *table) windows(name string, p *window.Weekly, doc string) {
	k := Key{Name: name, Values: "days and times, as in mon-fri 22:00-05:00, sat,sun 00:00-24:00", Doc: doc}
	t.add(k, func(v value, _ resolver) error { return store(p)(window.Parse(strings.Join(v.split(), ","))) })
}

func (t *table) ports(name string, p *[]int, def []int, doc string) {
	*p = def
	k := Key{Name: name, Values: "ports and ranges, as in 4000,4010-4019", Default: joinInts(def), Doc: doc}
	t.add(k, func(v value, _ resolver) error {
		ports, err := parsePorts(v.split())
		if err == nil && len(ports) == 0 && len(def) > 0 {
			err = fmt.Errorf("is empty; give at least one port")
		}
		return store(p)(ports, err)
	})
}

func (t *table) prefixes(name string, p *[]netip.Prefix, doc string) {
	k := Key{Name: name, Values: "IP addresses and networks, as in 10.0.2.7,10.1.0.0/16", Doc: doc}
	t.add(k, func(v value, _ resolver) error { return store(p)(parsePrefixes(v.split())) })
}

// recipients adds a list of age public keys. Whether they are valid is for whoever encrypts to say; a private key must
// not get that far.
func (t *table) recipients(name string, p *[]string, doc string) {
	t.add(Key{Name: name, Values: "list of age public keys", Doc: doc}, func(v value, _ resolver) error {
		out := v.split()
		for _, item := range out {
			if strings.HasPrefix(strings.ToUpper(item), "AGE-") {
				return fmt.Errorf("holds a private key; give the public one, which begins with age1, and make a new pair")
			}
			if !strings.HasPrefix(item, "age1") {
				return fmt.Errorf("%q is not a public key of age; it begins with age1", clip(item))
			}
		}
		*p = out
		return nil
	})
}

func (t *table) servers(name string, p *[]Server, require bool, doc string) {
	k := Key{Name: name, Values: "list of host:port", Doc: doc, Require: require}
	t.add(k, func(v value, _ resolver) error {
		servers, err := parseServers(v.split())
		if err == nil && len(servers) == 0 && require {
			err = fmt.Errorf(`is empty; list the servers as in "10.0.1.1:3306,10.0.1.2:3306"`)
		}
		return store(p)(servers, err)
	})
}

func (t *table) secret(name string, p *Secret, doc string) {
	t.add(Key{Name: name, Values: "a password", Doc: doc, Secret: true}, func(v value, r resolver) error {
		return store(p)(r(v.text()))
	})
}

func (t *table) credential(name string, user *string, password *Secret, doc string) {
	k := Key{Name: name, Values: "user:password", Doc: doc, Secret: true, Require: true}
	t.add(k, func(v value, r resolver) error {
		u, err := parseUser(v.text(), r)
		if err != nil {
			return err
		}
		*user, *password = u.Name, u.Password
		return nil
	})
}

// login adds an account whose password may be left out.
func (t *table) login(name string, user *string, password *Secret, doc string) {
	t.add(Key{Name: name, Values: "user or user:password", Doc: doc, Secret: true}, func(v value, r resolver) error {
		u, err := parseLogin(v.text(), r)
		if err != nil {
			return err
		}
		*user, *password = u.Name, u.Password
		return nil
	})
}

func (t *table) credentials(name string, p *[]User, doc string) {
	t.add(Key{Name: name, Values: "list of user:password", Doc: doc, Secret: true}, func(v value, r resolver) error {
		return store(p)(parseUsers(v, r))
	})
}

func (t *table) grants(name string, p *[]User, doc string) {
	t.add(Key{Name: name, Values: "list of user:grant words", Doc: doc}, func(v value, _ resolver) error {
		return store(p)(parseGrants(v.split()))
	})
}

// store returns a function that keeps v in p unless there is an error: the tail of most parse functions.
func store[T any](p *T) func(v T, err error) error {
	return func(v T, err error) error {
		if err == nil {
			*p = v
		}
		return err
	}
}
