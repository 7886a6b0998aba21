package main

import (
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"drydock/app"
	"drydock/bus"
	"drydock/config"
	"drydock/explain"
	"drydock/job"
	"drydock/receiver/binlog"
	"drydock/store"
)

//go:generate go test -run TestFieldsOfListingsAreThoseOfTheDocument -update

// schemas are what the commands write with -o json and yaml: a list of the value, or the value where one is named.
var schemas = []struct {
	command string
	of      any
}{
	{"alerts", []store.OpenCondition{}},
	{"alerts --all", []bus.Alert{}},
	{"alerts sent", []bus.Notification{}},
	{"audit", []bus.Audit{}},
	{"backups", []store.Manifest{}},
	{"backups prune", []bus.PlanItem{}},
	{"backups rebuild", []app.Found{}},
	{"backups verify", []app.Found{}},
	{"binlogs", []shelf{}},
	{"binlogs verify", struct {
		Segments []binlog.Found `json:"segments"`
		Gaps     []store.Gap    `json:"gaps"`
	}{}},
	{"blackout ls", store.Closures{}},
	{"check", []app.Item{}},
	{"drill run", store.Drill{}},
	{"explain", explain.Explanation{}},
	{"import-repman", config.Import{}},
	{"jobs", []job.Job{}},
	{"jobs JOB", job.Job{}},
	{"nats user list", []readerRow{}},
	{"next", []bus.ScheduleInfo{}},
	{"restore plan", app.RestorePlan{}},
	{"rolling show", job.Job{}},
	{"schedules list", []bus.ScheduleInfo{}},
	{"ticks", []bus.Tick{}},
	{"users list", []store.UserInfo{}},
	{"users token list", []store.TokenInfo{}},
}

// writeSchemas lists the fields of every listing. A type that is told already is named by the command that tells it.
func writeSchemas(w io.Writer) {
	told := map[reflect.Type]string{}
	for _, s := range schemas {
		t := reflect.TypeOf(s.of)
		what, one := "an object", t
		if t.Kind() == reflect.Slice {
			what, one = "a list of objects", t.Elem()
		}
		if as := told[one]; as != "" {
			fmt.Fprintf(w, "`%s`: %s as of `%s`.\n\n", s.command, what, as)
			continue
		}
		told[one] = s.command
		fmt.Fprintf(w, "`%s`: %s.\n\n```\n", s.command, what)
		writeFields(w, "", one, map[reflect.Type]bool{})
		fmt.Fprint(w, "```\n\n")
	}
}

var (
	timeType     = reflect.TypeFor[time.Time]()
	rawType      = reflect.TypeFor[json.RawMessage]()
	serverType   = reflect.TypeFor[job.Server]()
	marshalsText = reflect.TypeFor[encoding.TextMarshaler]()
	marshals     = reflect.TypeFor[json.Marshaler]()
)

// writeFields lists the fields of a struct by their names in JSON, those of the structs in it after their own.
func writeFields(w io.Writer, prefix string, t reflect.Type, above map[reflect.Type]bool) {
	above[t] = true
	defer delete(above, t)
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		if f.Anonymous && name == "" {
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			writeFields(w, prefix, inner, above)
			continue
		}
		if name == "" {
			name = f.Name
		}
		kind, inner := kindOf(f.Type)
		if strings.HasPrefix(options, "omit") {
			kind += ", not always"
		}
		fmt.Fprintf(w, "%s%s  %s\n", prefix, name, kind)
		if inner != nil && !above[inner] {
			dot := "."
			if strings.HasPrefix(kind, "list") {
				dot = "[]."
			}
			writeFields(w, prefix+name+dot, inner, above)
		}
	}
}

// kindOf names the kind of a field, and gives the struct whose fields are to be told.
func kindOf(t reflect.Type) (kind string, inner reflect.Type) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == timeType:
		return "time", nil
	case t == rawType, t.Kind() == reflect.Interface:
		return "any", nil
	case t == serverType:
		return "server {host, port}", nil
	case t.Implements(marshalsText), t.Implements(marshals), reflect.PointerTo(t).Implements(marshals):
		return "text", nil
	}
	switch t.Kind() {
	case reflect.Struct:
		return "object", t
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return "text", nil
		}
		k, inner := kindOf(t.Elem())
		return "list of " + k, inner
	case reflect.Map:
		k, inner := kindOf(t.Elem())
		return "map to " + k, inner
	case reflect.String:
		return "text", nil
	case reflect.Bool:
		return "true or false", nil
	}
	return "number", nil
}
