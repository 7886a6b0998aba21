package bus

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
)

// FormatVersion is the newest version of messages, documents and manifests that this drydock reads: the number in their
// member `type`, as in drydock.v1.job. What has no such member is read as version 1: documents had none at first.
const FormatVersion = 1

// ErrNewer is returned for what a newer drydock wrote in a form that this one does not know. It must not be read as if it
// were of today: the caller leaves it as it is.
var ErrNewer = errors.New("a newer drydock wrote this; upgrade this one")

var typeOf = regexp.MustCompile(`^drydock\.v([0-9]+)\.`)

// CheckVersion looks at the version in the JSON of a stored document. Errors: [ErrNewer].
func CheckVersion(data []byte) error {
	if ofToday(data) {
		return nil
	}
	m := typeOf.FindStringSubmatch(ownType(data))
	if m == nil {
		return nil
	}
	if v, err := strconv.Atoi(m[1]); err != nil || v > FormatVersion {
		return fmt.Errorf("%w (version %s, known is %d)", ErrNewer, m[1], FormatVersion)
	}
	return nil
}

// ofToday reports whether no text in a document, wherever it stands, can name another version than the known one. It spares
// nearly every message being read twice.
func ofToday(data []byte) bool {
	if bytes.Contains(data, []byte(`\u`)) {
		return false // a letter may be spelled like that
	}
	for {
		_, rest, found := bytes.Cut(data, []byte("drydock.v"))
		if !found {
			return true
		}
		if !bytes.HasPrefix(rest, []byte("1.")) {
			return false
		}
		data = rest
	}
}

// ownType is the member `type` of an object itself, empty when there is none: a database host may have put anything into the
// objects inside. It is the first member of all that drydock writes, so little is read.
func ownType(data []byte) string {
	d := json.NewDecoder(bytes.NewReader(data))
	if begin, err := d.Token(); err != nil || begin != json.Delim('{') {
		return ""
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return ""
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return ""
		}
		if key == "type" {
			var text string
			_ = json.Unmarshal(value, &text) // empty when it is no text
			return text
		}
	}
	return ""
}

// Decode reads a stored message or document into v. Errors: [ErrNewer], those of [json.Unmarshal].
func Decode(data []byte, v any) error {
	if err := CheckVersion(data); err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// Encode is the JSON of a document that has no member `type` of its own, with one in front. A map or list stays as it is:
// all in it is data. Such a document gets a new key when its form changes.
func Encode(typ string, v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil || reflect.Indirect(reflect.ValueOf(v)).Kind() != reflect.Struct {
		return data, err
	}
	if len(data) < 2 || data[0] != '{' {
		return nil, fmt.Errorf("%T is no object", v)
	}
	head := `{"type":"` + typ + `"`
	if len(data) > 2 {
		head += ","
	}
	return append([]byte(head), data[1:]...), nil
}
