package openapi

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"
)

// schemas are the JSON schemas of Go types, by name.
type schemas struct {
	all object
	of  map[string]string // name by package and type
}

func ref(name string) object { return object{"$ref": "#/components/schemas/" + name} }

// schema is that of a value's type, or of an [Object].
func (s *schemas) schema(v any) any {
	o, ok := v.(Object)
	if !ok {
		return s.typ(reflect.TypeOf(v))
	}
	properties, names := object{}, []string{}
	for name, member := range o {
		one := s.schema(member)
		if list, ok := one.(object); ok && list["items"] != nil {
			list["type"] = "array" // never null
		}
		properties[name], names = one, append(names, name)
	}
	slices.Sort(names)
	return object{"type": "object", "required": names, "properties": properties}
}

var (
	timeType = reflect.TypeFor[time.Time]()
	rawType  = reflect.TypeFor[json.RawMessage]()
)

func (s *schemas) typ(t reflect.Type) any {
	switch {
	case t == timeType:
		return object{"type": "string", "format": "date-time"}
	case t == rawType:
		return object{}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.typ(t.Elem())
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return object{"type": []string{"string", "null"}, "contentEncoding": "base64"}
		}
		return object{"type": []string{"array", "null"}, "items": s.typ(t.Elem())}
	case reflect.Map:
		return object{"type": []string{"object", "null"}, "additionalProperties": s.typ(t.Elem())}
	case reflect.Struct:
		return ref(s.component(t))
	case reflect.Interface:
		return object{}
	}
	return object{"type": "integer"}
}

// component gives a struct a place among the schemas, and its name there.
func (s *schemas) component(t reflect.Type) string {
	key := t.PkgPath() + "." + t.Name()
	if name, ok := s.of[key]; ok {
		return name
	}
	name := strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
	if _, taken := s.all[name]; taken {
		pkg := t.PkgPath()[strings.LastIndexByte(t.PkgPath(), '/')+1:]
		name = strings.ToUpper(pkg[:1]) + pkg[1:] + name
	}
	s.of[key] = name
	s.all[name] = object{} // for those that hold themselves
	properties, required := object{}, []string{}
	s.fields(t, properties, &required)
	schema := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		slices.Sort(required)
		schema["required"] = required
	}
	s.all[name] = schema
	return name
}

// fields are the members that encoding/json writes for a struct.
func (s *schemas) fields(t reflect.Type, properties object, required *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			s.fields(f.Type, properties, required)
			continue
		case !f.IsExported() || name == "-":
			continue
		case name == "":
			name = f.Name
		}
		one := s.typ(f.Type)
		optional := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
		if f.Type.Kind() == reflect.Pointer && !optional {
			one = object{"anyOf": []any{one, object{"type": "null"}}}
		}
		properties[name] = one
		if !optional {
			*required = append(*required, name)
		}
	}
}
