package config

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a password. Every way of printing it gives "[secret]"; only Reveal hands it out. Two limits of the
// standard library: keep it in exported fields, because fmt does not ask the methods of unexported ones, and never make
// it a map's key, because encoding/json writes string keys as they are.
type Secret string

const hidden = "[secret]"

// Reveal returns the password itself, for the one place that uses it.
func (s Secret) Reveal() string { return string(s) }

// String hides the password.
func (s Secret) String() string { return hidden }

// GoString hides the password from %#v.
func (s Secret) GoString() string { return hidden }

// Format hides the password from every other verb: %x and %q would otherwise reach the string below.
func (s Secret) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, hidden) }

// LogValue hides the password from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalJSON hides the password.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }

// MarshalText hides the password from TOML and other text encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }
