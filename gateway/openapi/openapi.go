// Package openapi writes an OpenAPI 3.1 document for a table of operations. The schemas come from the Go types that handlers read and
// write, so they cannot say anything else than the answers.
//
// It owns the form of the document. Which routes there are, and what each means, is the caller's table.
package openapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// Operation is one route and method.
type Operation struct {
	Method, Path string // as Gin has it: /api/jobs/:id
	Tag          string
	Summary      string
	Query        []Param
	Body         any         // zero value of the request's type; nil for none
	Secret       bool        // the body may be the envelope of the dbjobs protocol in place of Body
	Status       int         // of success; 0 for 200
	Answer       any         // zero value of the answer's type, or an [Object]; nil for an answer that is no JSON
	Text         string      // what such an answer is
	Media        string      // of such an answer; empty for text/plain
	Also         []int       // statuses that are part of the protocol, with the same kind of answer
	Other        map[int]any // what further statuses answer in place of an error, as Answer
	Open         bool        // no credentials
	Basic        bool        // name and password serve, too
}

// Param is a parameter in the query.
type Param struct{ Name, About string }

// Object is an answer that a handler puts together: members by name, each with the zero value of its type. Lists in it are never
// null.
type Object map[string]any

// Info says whose document it is.
type Info struct{ Title, Version, Description string }

type object = map[string]any

// Document is the document as JSON, with a line for each member, in an order that is always the same.
func Document(info Info, ops []Operation) ([]byte, error) {
	s := &schemas{all: object{}, of: map[string]string{}}
	s.all["Error"] = object{
		"type": "object", "required": []string{"error"},
		"properties": object{"error": object{
			"type": "object", "required": []string{"code", "message"},
			"properties": object{"code": object{"type": "string"}, "message": object{"type": "string"}},
		}},
	}
	s.all["Envelope"] = object{
		"type": "object", "required": []string{"data"}, "description": "JSON of the identity, encrypted with the database password: docs/protocol.md.",
		"properties": object{"data": object{"type": "string"}},
	}
	paths := object{}
	for _, op := range ops {
		path, params := pathOf(op.Path)
		item, _ := paths[path].(object)
		if item == nil {
			item = object{}
			paths[path] = item
		}
		if _, twice := item[strings.ToLower(op.Method)]; twice {
			return nil, fmt.Errorf("describe the API: %s %s stands twice", op.Method, op.Path)
		}
		item[strings.ToLower(op.Method)] = s.operation(op, path, params)
	}
	return json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info":    object{"title": info.Title, "version": info.Version, "description": info.Description},
		"paths":   paths,
		"components": object{
			"schemas": s.all,
			"securitySchemes": object{
				"token":    object{"type": "http", "scheme": "bearer", "description": "Of POST /api/login, or an API token."},
				"password": object{"type": "http", "scheme": "basic"},
			},
		},
		"security": []object{{"token": []string{}}},
	}, "", " ")
}

var parameter = regexp.MustCompile(`:([a-z]+)`)

// pathOf is a path of Gin as OpenAPI spells it, with its parameters.
func pathOf(gin string) (path string, params []string) {
	path = parameter.ReplaceAllStringFunc(gin, func(p string) string {
		params = append(params, p[1:])
		return "{" + p[1:] + "}"
	})
	return path, params
}

func (s *schemas) operation(op Operation, path string, params []string) object {
	out := object{"summary": op.Summary, "tags": []string{op.Tag}, "operationId": id(op.Method, path)}
	var list []object
	for _, p := range params {
		list = append(list, object{"name": p, "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, p := range op.Query {
		list = append(list, object{"name": p.Name, "in": "query", "description": p.About, "schema": object{"type": "string"}})
	}
	if list != nil {
		out["parameters"] = list
	}
	if body := s.body(op); body != nil {
		out["requestBody"] = object{"content": object{"application/json": object{"schema": body}}}
	}
	status := op.Status
	if status == 0 {
		status = http.StatusOK
	}
	answer := s.answer(op)
	responses := object{fmt.Sprint(status): answer, "default": object{
		"description": "an error", "content": object{"application/json": object{"schema": ref("Error")}},
	}}
	for _, also := range op.Also {
		responses[fmt.Sprint(also)] = answer
	}
	for status, v := range op.Other {
		responses[fmt.Sprint(status)] = s.answer(Operation{Answer: v})
	}
	out["responses"] = responses
	switch {
	case op.Open:
		out["security"] = []object{}
	case op.Basic:
		out["security"] = []object{{"token": []string{}}, {"password": []string{}}}
	}
	return out
}

func (s *schemas) body(op Operation) any {
	switch {
	case op.Secret && op.Body != nil:
		return object{"anyOf": []any{ref("Envelope"), s.schema(op.Body)}}
	case op.Secret:
		return ref("Envelope")
	case op.Body != nil:
		return s.schema(op.Body)
	}
	return nil
}

func (s *schemas) answer(op Operation) object {
	if op.Answer != nil {
		return object{"description": "done", "content": object{"application/json": object{"schema": s.schema(op.Answer)}}}
	}
	media := op.Media
	if media == "" {
		media = "text/plain"
	}
	return object{"description": op.Text, "content": object{media: object{"schema": object{"type": "string"}}}}
}

var notWord = regexp.MustCompile(`[^a-zA-Z]+`)

func id(method, path string) string {
	return strings.ToLower(method) + strings.Trim(notWord.ReplaceAllString(path, "_"), "_")
}
