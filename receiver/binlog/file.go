package binlog

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"drydock/durable"
	"drydock/job"
	"drydock/receiver/sink"
	"drydock/store"
)

// ManifestSuffix follows the name of a segment.
const ManifestSuffix = ".segment.json"

// segmentFile is a segment that grows. It belongs to one goroutine.
type segmentFile struct {
	seg  store.Segment // what is on disk
	file *os.File
	hash hash.Hash
	sign func(store.Segment) (store.Segment, error)
	bad  error // of a write: what stands in the file then is not known, and nothing is added to it
}

// createSegment begins the file of s, in which every field is set that does not change.
func createSegment(s store.Segment, sign func(store.Segment) (store.Segment, error)) (*segmentFile, error) {
	s.Open, s.Algo = true, sink.SHA256
	s.End, s.Bound, s.After, s.Own = s.Start, s.Start, s.Before, s.Stream
	line, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode segment: %w", err)
	}
	if err := durable.MakeFolder(filepath.Dir(s.Path)); err != nil {
		return nil, fmt.Errorf("make the folder of binary logs: %w", err)
	}
	file, err := os.OpenFile(s.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create segment: %w", err)
	}
	f := &segmentFile{seg: s, file: file, sign: sign}
	if f.hash, err = newHash(); err != nil {
		return nil, err
	}
	if err := f.write(append(append([]byte(frameMagic), line...), '\n')); err != nil {
		return nil, errors.Join(err, f.abandon())
	}
	return f, nil
}

func newHash() (hash.Hash, error) {
	d, err := sink.NewHash(sink.SHA256)
	if err != nil {
		return nil, err
	}
	h, ok := d.(hash.Hash)
	if !ok {
		return nil, errors.New("hash segments: no SHA-256")
	}
	return h, nil
}

// write appends bytes durably.
func (f *segmentFile) write(b []byte) error {
	if f.bad != nil {
		return f.bad
	}
	_, err := f.file.Write(b)
	if err == nil {
		err = f.file.Sync()
	}
	if err != nil {
		f.bad = fmt.Errorf("write segment: %w", err)
		_ = f.file.Truncate(f.seg.Stored) // or whoever takes it up does that
		return f.bad
	}
	_, _ = f.hash.Write(b)
	f.seg.Stored += int64(len(b))
	return nil
}

// append makes an encoded frame durable.
func (f *segmentFile) append(fr frame, encoded []byte, size int64) error {
	if err := f.write(encoded); err != nil {
		return err
	}
	fr.Size = size
	fr.add(&f.seg)
	return nil
}

// publish signs what is on disk and writes the manifest.
func (f *segmentFile) publish() (store.Segment, error) {
	f.seg.Hash = hex.EncodeToString(f.hash.Sum(nil))
	signed, err := f.sign(f.seg)
	if err != nil {
		return signed, err
	}
	return signed, writeManifest(signed)
}

// end closes the file; publish comes after it.
func (f *segmentFile) end() error {
	f.seg.Open = false
	if err := f.file.Close(); err != nil {
		return fmt.Errorf("close segment: %w", err)
	}
	return nil
}

// abandon removes a file that holds nothing.
func (f *segmentFile) abandon() error { return errors.Join(f.file.Close(), os.Remove(f.seg.Path)) }

// writeManifest replaces the manifest of a segment in one durable step.
func writeManifest(s store.Segment) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode manifest of %s: %w", s.ID(), err)
	}
	dir, name := filepath.Split(s.Path)
	temp := filepath.Join(dir, "."+name+ManifestSuffix+".tmp")
	if err := durable.ReplaceBy(temp, s.Path+ManifestSuffix, append(data, '\n')); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return nil
}

// recoverSegment closes a segment that a crash left open: the last whole frame ends it. It says false, and removes the file, when
// there is no whole frame: nothing was acknowledged of it.
func recoverSegment(path string, sign func(store.Segment) (store.Segment, error)) (s store.Segment, ok bool, err error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return s, false, fmt.Errorf("recover segment: %w", err)
	}
	defer file.Close()
	r := newFrameReader(file)
	s, err = r.head()
	signed, _ := readManifest(path)
	for frames := 0; ; frames++ {
		var fr frame
		if err == nil {
			fr, _, err = r.next()
		}
		if err == nil {
			fr.add(&s)
			continue
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrDamaged) {
			return s, false, fmt.Errorf("recover segment %s: %w", path, err)
		}
		if r.read < signed.Stored {
			return keepDamaged(path, signed, sign)
		}
		if frames == 0 {
			if err := beginsAsSegment(path); err != nil {
				return s, false, fmt.Errorf("recover segment %s: %w", path, err)
			}
			return s, false, errors.Join(os.Remove(path), removeIfThere(path+ManifestSuffix), durable.SyncFolder(filepath.Dir(path)))
		}
		break
	}
	if err := errors.Join(file.Truncate(r.read), file.Sync()); err != nil {
		return s, false, fmt.Errorf("recover segment %s: %w", path, err)
	}
	s.Path, s.Open, s.Stored = path, false, r.read
	s.Hash = hex.EncodeToString(r.hash.Sum(nil))
	if signed.End == s.End {
		s.Seen = signed.Seen
	}
	if s, err = sign(s); err != nil {
		return s, false, err
	}
	return s, true, writeManifest(s)
}

// beginsAsSegment is nil for a file that createSegment has begun, however short it is. Any other is somebody else's, or evidence.
func beginsAsSegment(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	first, err := io.ReadAll(io.LimitReader(file, int64(len(frameMagic))))
	if err != nil {
		return err
	}
	if !strings.HasPrefix(frameMagic, string(first)) {
		return fmt.Errorf("%w: it begins with something else", ErrDamaged)
	}
	return nil
}

// keepDamaged closes a segment of which less can be read than was signed. That is no crash's doing: nothing is cut off, and whoever
// reads it is told.
func keepDamaged(path string, s store.Segment, sign func(store.Segment) (store.Segment, error)) (store.Segment, bool, error) {
	s.Path, s.Open = path, false
	s, err := sign(s)
	if err != nil {
		return s, false, err
	}
	return s, true, writeManifest(s)
}

// folderOf is where the segments of a server go, below the folder of all backups.
func folderOf(dir, cluster string, s job.Server) string {
	return filepath.Join(dir, cluster, fmt.Sprintf("%s_%d", s.Host, s.Port), Folder)
}

// isOwn says whether a segment lies where a receiver with this folder of all backups puts it. What the catalogue says may
// have come from anywhere: no other file is changed or deleted for it.
func isOwn(dir string, s store.Segment) bool {
	if strings.ContainsRune(s.Cluster+s.Server.Host+s.Name(), filepath.Separator) || strings.HasPrefix(s.Cluster, ".") || strings.HasPrefix(s.Server.Host, ".") {
		return false
	}
	want, err := filepath.Abs(filepath.Join(folderOf(dir, s.Cluster, s.Server), s.Name()))
	if err != nil {
		return false
	}
	path, err := filepath.Abs(s.Path)
	return err == nil && path == want
}

// readManifest reads the manifest beside a segment, unchecked; it is the zero Segment when there is none.
func readManifest(path string) (s store.Segment, err error) {
	text, err := os.ReadFile(path + ManifestSuffix)
	if err != nil {
		return s, err
	}
	err = json.Unmarshal(text, &s)
	return s, err
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// walkSegments gives the path of every segment file below dir to each.
func walkSegments(dir string, each func(path string) error) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".binlog") || !d.Type().IsRegular() {
			return err
		}
		return each(path)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
