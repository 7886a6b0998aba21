package gateway

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"drydock/gateway/auth"
	"drydock/scripts"
)

// The files of the archive for an init container (maintenance.txt section 6.1.4.1), below this folder.
const (
	initFolder   = "init/init/"
	initScript   = initFolder + "dbjobs_new"
	initLauncher = initFolder + "dbjobs_start"
	initEnv      = initFolder + "dbjobs.env"
)

// initTime is the time of every file in the archive: equal input gives equal bytes.
var initTime = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// databaseHere is where the script of a container finds its database: they share a network namespace.
const databaseHere = "127.0.0.1"

// mayFetch lets through who may have the archive: a token or a user's password (HTTP Basic, which every downloader
// speaks) with the grant. Where it holds no secret, everybody may.
func (g *Gateway) mayFetch(c *gin.Context) {
	if g.cfg.OpenConfig {
		return
	}
	who, err := g.presented(c)
	switch {
	case c.IsAborted():
	case err != nil:
		c.Header("WWW-Authenticate", `Basic realm="drydock", charset="UTF-8"`)
		g.fail(c, err)
	case !who.May(callOf(c).cluster.Name, callOf(c).server.String(), auth.Tarball):
		g.fail(c, errForbidden)
	}
}

// presented is whose password or token a request carries.
func (g *Gateway) presented(c *gin.Context) (auth.Principal, error) {
	if user, password, ok := c.Request.BasicAuth(); ok {
		return g.proven(c, user, password)
	}
	return g.verify(bearer(c.Request))
}

// serverConfig answers with the archive for the container beside a server: script, launcher, environment.
func (g *Gateway) serverConfig(c *gin.Context) {
	files, err := g.initFiles(callOf(c))
	if err != nil {
		g.fail(c, err)
		return
	}
	body, err := archive(files)
	if err != nil {
		g.fail(c, err)
		return
	}
	sum := sha256.Sum256(body)
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	c.Header("ETag", tag)
	c.Header("Cache-Control", "private, no-cache")
	if matches(c.GetHeader("If-None-Match"), tag) {
		c.Status(http.StatusNotModified)
		return
	}
	c.Header("Content-Length", strconv.Itoa(len(body))) // never chunked: HTTP/1.0 clients fetch it (wire.md section 1)
	c.Header("Content-Disposition", `attachment; filename="config.tar.gz"`)
	c.Data(http.StatusOK, "application/gzip", body)
}

// matches reports whether a header If-None-Match names the tag.
func matches(header, tag string) bool {
	for one := range strings.SplitSeq(header, ",") {
		if one = strings.TrimPrefix(strings.TrimSpace(one), "W/"); one == tag || one == "*" {
			return true
		}
	}
	return false
}

// initFile is one file of the archive.
type initFile struct {
	name string
	mode int64
	data []byte
}

// initFiles are the files for one server. The API's user is not among the variables: a file that lies in a container
// should not open more than the one database it is for.
func (g *Gateway) initFiles(k *call) ([]initFile, error) {
	_, port, err := net.SplitHostPort(g.APIAddr().String())
	if err != nil {
		return nil, fmt.Errorf("read the port of the API: %w", err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("read the port of the API: %w", err)
	}
	left := []string{scripts.EnvAPIUser, scripts.EnvAPIPassword}
	if g.cfg.OpenConfig {
		left = append(left, scripts.EnvPassword, scripts.EnvRootPassword)
	}
	env := slices.DeleteFunc(scripts.Host{
		APIHost: g.cfg.Address, APIPort: n, Cluster: k.cluster.Name, Server: k.server.Host, Port: k.server.Port,
		User: k.cluster.User, Password: k.cluster.Password, ReceiverPort: k.cluster.receiverPort(k.index),
	}.Environment(), func(v scripts.Variable) bool { return slices.Contains(left, v.Name) })
	exports, err := scripts.Exports(append(env, scripts.Variable{Name: "DRYDOCK_DB_ADDRESS", Value: databaseHere}))
	if err != nil {
		return nil, fmt.Errorf("write the environment of %s: %w", k.server, err)
	}
	return []initFile{{initEnv, 0o600, exports}, {initScript, 0o755, g.cfg.Script}, {initLauncher, 0o755, scripts.Launcher()}}, nil
}

// archive packs the files and the folders they need. The bytes depend on the files alone.
func archive(files []initFile) ([]byte, error) {
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	pack := tar.NewWriter(zip)
	for _, folder := range []string{"init/", initFolder} {
		h := &tar.Header{Typeflag: tar.TypeDir, Name: folder, Mode: 0o755, ModTime: initTime, Format: tar.FormatUSTAR}
		if err := pack.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("pack %s: %w", folder, err)
		}
	}
	for _, f := range files {
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.data)), ModTime: initTime, Format: tar.FormatUSTAR,
		}
		if err := pack.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.name, err)
		}
		if _, err := pack.Write(f.data); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.name, err)
		}
	}
	if err := errors.Join(pack.Close(), zip.Close()); err != nil {
		return nil, fmt.Errorf("pack the archive: %w", err)
	}
	return b.Bytes(), nil
}
