package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
)

//go:embed assets templates
var files embed.FS

// assets are the files of the page by name. Their addresses carry a hash of their content, so that a browser may keep them
// for ever and a new drydock is never seen with an old style.
type assets map[string]asset

type asset struct {
	data []byte
	kind string // media type
	sum  string
}

func loadAssets() (assets, error) {
	out := assets{}
	err := fs.WalkDir(files, "assets", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		var kind string // whatever the machine's tables say
		switch path.Ext(name) {
		case ".js":
			kind = "text/javascript; charset=utf-8"
		case ".css":
			kind = "text/css; charset=utf-8"
		case ".svg":
			kind = "image/svg+xml"
		default:
			return nil
		}
		data, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		out[path.Base(name)] = asset{data, kind, hex.EncodeToString(sum[:6])}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the files of the page: %w", err)
	}
	return out, nil
}

// url is where a file is served.
func (a assets) url(name string) (string, error) {
	f, ok := a[name]
	if !ok {
		return "", fmt.Errorf("no file %s among the page's", name)
	}
	return "/assets/" + f.sum + "/" + name, nil
}

func (w *Web) serveAsset(out http.ResponseWriter, r *http.Request) {
	f, ok := w.assets[r.PathValue("name")]
	if !ok {
		http.NotFound(out, r)
		return
	}
	out.Header().Set("Content-Type", f.kind)
	if r.PathValue("sum") == f.sum {
		out.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	_, _ = out.Write(f.data)
}
