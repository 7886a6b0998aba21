package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // a minimal machine has no zone files, and scheduler-timezone must mean the same everywhere
	"unicode"
)

const (
	mib = int64(1) << 20
	gib = int64(1) << 30

	mysqlPort = 3306
	// maxPorts keeps a slip such as 1-65535 from becoming a pool nobody wanted.
	maxPorts = 4096
)

// clip shortens a value for an error text.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}

func parseBool(s string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "true", "yes", "on", "1":
		return true, nil
	case "false", "no", "off", "0":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false; write one of them", clip(s))
}

func parseNumber(s string, low, high int) (int, error) {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number; give one from %d to %d", clip(s), low, high)
	}
	if n < low || n > high {
		return 0, fmt.Errorf("%d is out of range; give a number from %d to %d", n, low, high)
	}
	return n, nil
}

// parseDuration reads "90s", "1h30m", "7d", "1d12h" or a plain number of seconds; never negative.
func parseDuration(s string) (time.Duration, error) {
	s = strings.TrimSpace(s)
	bad := fmt.Errorf(`%q is not a duration; write it like 90s, 1h30m, 7d, or as a number of seconds`, clip(s))
	if secs, err := strconv.ParseInt(s, 10, 64); err == nil {
		if secs < 0 || secs > int64(math.MaxInt64/time.Second) {
			return 0, bad
		}
		return time.Duration(secs) * time.Second, nil
	}
	days, rest, found := strings.Cut(s, "d")
	if !found {
		days, rest = "0", s
	}
	n, err := strconv.ParseUint(days, 10, 16) // 65535 days: 179 years, below the overflow of time.Duration
	if err != nil {
		return 0, bad
	}
	d := time.Duration(n) * 24 * time.Hour
	if rest == "" {
		return d, nil
	}
	more, err := time.ParseDuration(rest)
	if err != nil || more < 0 || more > math.MaxInt64-d {
		return 0, bad
	}
	return d + more, nil
}

// formatDuration is the inverse of parseDuration in its shortest form: "400d", "12h", "1m30s".
func formatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d > 0 && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// sizeUnits in the order they are tried, longest first where one ends with another.
var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"KIB", 1 << 10}, {"MIB", 1 << 20}, {"GIB", 1 << 30}, {"TIB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// parseSize reads "4GiB", "500MB" or plain bytes; never negative.
func parseSize(s string) (int64, error) {
	text, unit := strings.ToUpper(strings.TrimSpace(s)), int64(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(text, u.name); ok {
			text, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is not a size; write it like 4GiB, 500MB, or as a number of bytes", clip(s))
	}
	return n * unit, nil
}

// formatSize is the inverse of parseSize for whole binary units.
func formatSize(n int64) string {
	for _, u := range []struct {
		name  string
		bytes int64
	}{{"GiB", gib}, {"MiB", mib}} {
		if n >= u.bytes && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// oneOf returns the permitted value that equals s without regard to case.
func oneOf(s string, values []string) (string, error) {
	for _, v := range values {
		if strings.EqualFold(strings.TrimSpace(s), v) {
			return v, nil
		}
	}
	return "", fmt.Errorf("%q is not a permitted value; write one of %s", clip(s), strings.Join(values, ", "))
}

// parsePorts reads ports and ranges, without duplicates.
func parsePorts(items []string) ([]int, error) {
	var ports []int
	there := map[int]bool{} // each cluster may have a range of thousands
	for _, item := range items {
		lowText, highText, isRange := strings.Cut(item, "-")
		if !isRange {
			highText = lowText
		}
		low, err := parseNumber(lowText, 1, 65535)
		if err != nil {
			return nil, err
		}
		high, err := parseNumber(highText, 1, 65535)
		if err != nil {
			return nil, err
		}
		if low > high {
			return nil, fmt.Errorf("range %q runs backwards; write the lower port first", clip(item))
		}
		if len(ports)+high-low >= maxPorts {
			return nil, fmt.Errorf("names more than %d ports; shorten the list", maxPorts)
		}
		for port := low; port <= high; port++ {
			if there[port] {
				return nil, fmt.Errorf("port %d stands there twice; remove one", port)
			}
			there[port] = true
			ports = append(ports, port)
		}
	}
	return ports, nil
}

func joinInts(list []int) string {
	var out []string
	for _, n := range list {
		out = append(out, strconv.Itoa(n))
	}
	return strings.Join(out, ",")
}

// parsePrefixes reads addresses and networks in CIDR form.
func parsePrefixes(items []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, item := range items {
		p, err := netip.ParsePrefix(item)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(item); err == nil && a.Zone() == "" {
				p = netip.PrefixFrom(a, a.BitLen())
			}
		}
		if err != nil || !p.IsValid() {
			return nil, fmt.Errorf("%q is neither an IP address nor a network; write it like 10.0.2.7 or 10.1.0.0/16", clip(item))
		}
		if p != p.Masked() {
			return nil, fmt.Errorf("%q has bits beyond its mask; write %s", clip(item), p.Masked())
		}
		out = append(out, p)
	}
	return out, nil
}

func notEmpty(s string) error {
	if s == "" {
		return errors.New("is empty; give it a value or remove the line")
	}
	return nil
}

// emptyOr permits "" and leaves everything else to check.
func emptyOr(check func(string) error) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		return check(s)
	}
}

func noControl(s string) error {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return errors.New("holds a control character; remove it")
	}
	return nil
}

// plainName permits what is safe in a subject, a file name and a log line alike.
func plainName(s string) error {
	ok := func(r rune) bool {
		return r < 128 && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._-", r))
	}
	if s == "" || len(s) > 128 || strings.ContainsFunc(s, func(r rune) bool { return !ok(r) }) {
		return fmt.Errorf("%q is no plain name; use up to 128 letters, digits, dots, - and _", clip(s))
	}
	return nil
}

// unitName permits what systemd takes for the name of a unit.
func unitName(s string) error {
	ok := func(r rune) bool {
		return r < 128 && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._-:@", r))
	}
	if s == "" || s[0] == '-' || len(s) > 200 || strings.ContainsFunc(s, func(r rune) bool { return !ok(r) }) {
		return fmt.Errorf("%q is no name of a unit; write one as in mariadb or mariadb@3307.service", clip(s))
	}
	return nil
}

// bareHost permits a host name or an IP address, without port and brackets.
func bareHost(s string) error {
	if _, err := netip.ParseAddr(s); err == nil {
		return nil
	}
	if err := hostName(s); err != nil {
		return fmt.Errorf("%w; give an address without a port, as in 10.0.1.5", err)
	}
	return nil
}

func ipAddress(s string) error {
	if _, err := netip.ParseAddr(s); err != nil {
		return fmt.Errorf("%q is not an IP address; give one of this machine, or 0.0.0.0 for all", clip(s))
	}
	return nil
}

// listenAddress permits host:port; the host may be empty and the port 0.
func listenAddress(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = parseNumber(port, 0, 65535)
	}
	if err == nil && host != "" {
		err = bareHost(host)
	}
	if err != nil {
		return fmt.Errorf("%q is not host:port; write it like 127.0.0.1:4222", clip(s))
	}
	return nil
}

// natsURLs permits a list of server URLs. A password in one would end up in logs, so it is refused without quoting it.
func natsURLs(s string) error {
	for _, item := range strings.Split(s, ",") {
		u, err := url.Parse(strings.TrimSpace(item))
		if err != nil || u.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
			return errors.New("holds something that is no server URL; write it like nats://10.0.1.5:4222")
		}
		if u.User != nil {
			return errors.New("holds a user or password; put them into nats-user and nats-password")
		}
	}
	return nil
}

var subsetForm = regexp.MustCompile(`^([1-9][0-9]*/[1-9][0-9]*|[0-9]+(\.[0-9]+)?%|[1-9][0-9]*[kKmMgGtT]?)$`)

// subset is how restic spells a share of a repository.
func subset(s string) error {
	if !subsetForm.MatchString(s) {
		return fmt.Errorf("%q is no share of a repository; write it as 5%%, 1/7 or 10G", clip(s))
	}
	return nil
}
