package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// parseServers reads a list of host[:port], without duplicates.
func parseServers(items []string) ([]Server, error) {
	var out []Server
	for _, item := range items {
		s, err := parseServer(item)
		if err != nil {
			return nil, err
		}
		if slices.Contains(out, s) {
			return nil, fmt.Errorf("server %s stands there twice; remove one", s)
		}
		out = append(out, s)
	}
	return out, nil
}

// parseServer reads one host[:port]. Hosts become folder names and bus subjects, so nothing passes that is not a
// DNS name or an IP address.
func parseServer(item string) (Server, error) {
	host, port, err := splitServer(item)
	if err != nil {
		return Server{}, err
	}
	s := Server{Host: strings.ToLower(host), Port: mysqlPort}
	if port != "" {
		if s.Port, err = parseNumber(port, 1, 65535); err != nil {
			return Server{}, fmt.Errorf("server %q: port %w", clip(item), err)
		}
	}
	return s, nil
}

func splitServer(item string) (host, port string, err error) {
	if rest, ok := strings.CutPrefix(item, "["); ok {
		host, port, ok = strings.Cut(rest, "]")
		addr, err := netip.ParseAddr(host)
		if !ok || err != nil || !addr.Is6() || addr.Zone() != "" || (port != "" && !strings.HasPrefix(port, ":")) {
			return "", "", fmt.Errorf("server %q is not [IPv6]:port; write it like [2001:db8::1]:3306", clip(item))
		}
		return addr.String(), strings.TrimPrefix(port, ":"), nil
	}
	if strings.Count(item, ":") > 1 {
		return "", "", fmt.Errorf("server %q has more than one colon; put an IPv6 address in brackets, as in [2001:db8::1]:3306", clip(item))
	}
	host, port, found := strings.Cut(item, ":")
	if found && port == "" {
		return "", "", fmt.Errorf("server %q has a colon but no port; write the port or remove the colon", clip(item))
	}
	if err := hostName(host); err != nil {
		return "", "", fmt.Errorf("server %q: %w; write it like db1.example.com:3306", clip(item), err)
	}
	return host, port, nil
}

// hostName permits a DNS name or an IPv4 address. Empty labels are refused, and with them "..".
func hostName(host string) error {
	if host == "" || len(host) > 253 {
		return errors.New("host name is empty or longer than 253 characters")
	}
	for _, label := range strings.Split(host, ".") {
		if label == "" || len(label) > 63 || strings.HasPrefix(label, "-") {
			return fmt.Errorf("host name %q has an empty, too long or misshapen part", clip(host))
		}
		if i := strings.IndexFunc(label, func(r rune) bool { return !nameRune(r) }); i >= 0 {
			return fmt.Errorf("host name %q holds a character other than letters, digits, dot, - and _", clip(host))
		}
	}
	return nil
}

// nameRune reports whether r may stand in host and cluster names.
func nameRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
}

// parseUser reads user:password. The whole, or only the password, may be env:NAME or file:PATH; the parts are split
// before the password is resolved, so a resolved password may hold anything.
func parseUser(text string, r resolver) (User, error) {
	if isReference(text) {
		whole, err := r(text)
		if err != nil {
			return User{}, err
		}
		text, r = whole.Reveal(), func(s string) (Secret, error) { return Secret(s), nil }
	}
	name, password, found := strings.Cut(text, ":")
	name = strings.TrimSpace(name)
	if !found || name == "" {
		return User{}, errors.New("is not user:password; write both parts with a colon between them")
	}
	if err := noControl(name); err != nil {
		return User{}, err
	}
	secret, err := r(password)
	if err != nil {
		return User{}, err
	}
	if secret == "" {
		return User{}, errors.New("has an empty password, which would let anybody in; set one")
	}
	return User{Name: name, Password: secret}, nil
}

// parseLogin reads user or user:password, with references as in parseUser; a colon with nothing behind it is no password.
func parseLogin(text string, r resolver) (User, error) {
	if isReference(text) {
		whole, err := r(text)
		if err != nil {
			return User{}, err
		}
		text, r = whole.Reveal(), func(s string) (Secret, error) { return Secret(s), nil }
	}
	name, password, _ := strings.Cut(text, ":")
	if password != "" {
		return parseUser(text, r)
	}
	name = strings.TrimSpace(name)
	if name == "" {
		return User{}, errors.New("names no user; write user or user:password")
	}
	return User{Name: name}, noControl(name)
}

// parseUsers reads a list of user:password.
func parseUsers(v value, r resolver) ([]User, error) {
	if !v.list && isReference(v.text()) {
		whole, err := r(v.text())
		if err != nil {
			return nil, err
		}
		v, r = value{items: []string{whole.Reveal()}}, func(s string) (Secret, error) { return Secret(s), nil }
	}
	var out []User
	for _, item := range v.split() {
		u, err := parseUser(item, r)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out, func(o User) bool { return o.Name == u.Name }) {
			return nil, errors.New("names a user twice; remove one")
		}
		// secret-login provisions that user itself (wire.md section 6).
		if u.Name == "system" {
			return nil, errors.New(`user "system" belongs to the scripts; choose another name`)
		}
		out = append(out, u)
	}
	return out, nil
}

// parseGrants reads a list of user:words.
func parseGrants(items []string) ([]User, error) {
	var out []User
	for _, item := range items {
		name, words, found := strings.Cut(item, ":")
		name = strings.TrimSpace(name)
		if !found || name == "" {
			return nil, fmt.Errorf("%q is not user:grants; write it like admin:cluster db prov proxy", clip(item))
		}
		if slices.ContainsFunc(out, func(o User) bool { return o.Name == name }) {
			return nil, fmt.Errorf("user %q stands there twice; put all grants into one entry", clip(name))
		}
		u := User{Name: name, Grants: strings.Fields(words)}
		for _, g := range u.Grants {
			if err := plainName(g); err != nil {
				return nil, err
			}
		}
		out = append(out, u)
	}
	return out, nil
}
