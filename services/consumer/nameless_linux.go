package consumer

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// nameless opens a file that has no name from its first moment: a kill at any time
// leaves nothing behind. File systems that cannot do that get a file whose name is
// taken away at once.
func nameless() (*os.File, error) {
	dir := os.TempDir()
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL) {
		return unlinked()
	}
	if err != nil {
		return nil, fmt.Errorf("open a file without a name in %s: %w", dir, err)
	}
	return os.NewFile(uintptr(fd), dir+"/(payload)"), nil
}
