package sink

import (
	"errors"
	"io/fs"
	"os"
)

// removeIfThere removes a file and says whether it was there.
func removeIfThere(path string) (bool, error) {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
