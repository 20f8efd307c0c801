package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
)

const (
	// dirPerm keeps job and booking records from other users of the machine. A
	// directory that exists already keeps its own permissions: it may be a
	// mounted volume that is not ours to change. The store below it is made by us.
	dirPerm  = 0o700
	filePerm = 0o600

	// lockFileName is never removed: a lock file that is deleted while another
	// process waits for it lets two in.
	lockFileName = "ledgerline.lock"

	// storeDirName is the name the server itself gives its store below StoreDir.
	// Made here first so that it is private whatever the parent's permissions are.
	storeDirName = "jetstream"
)

// openDataDir makes sure dir is there, private when made by us, readable,
// writable and ours alone. The caller unlocks.
func openDataDir(dir string) (*flock.Flock, error) {
	if dir == "" {
		return nil, fmt.Errorf("%w: its path is empty", ErrDataDir)
	}
	if err := os.MkdirAll(dir, dirPerm); err != nil {
		return nil, fmt.Errorf("%w: create %s: %w", ErrDataDir, dir, err)
	}
	lock := flock.New(filepath.Join(dir, lockFileName), flock.SetPermissions(filePerm))
	held, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("%w: lock %s: %w", ErrDataDir, lock.Path(), err)
	}
	if !held {
		return nil, fmt.Errorf("%w: %s is locked", ErrDataDirInUse, lock.Path())
	}
	if err := probe(dir); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	store := filepath.Join(dir, storeDirName)
	if err := os.MkdirAll(store, dirPerm); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: create %s: %w", ErrDataDir, store, err), lock.Close())
	}
	if err := probe(store); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// probe reads dir and writes a file to it: permission bits alone do not show a
// read-only mount or a full disk.
func probe(dir string) error {
	if _, err := os.ReadDir(dir); err != nil {
		return fmt.Errorf("%w: read %s: %w", ErrDataDir, dir, err)
	}
	f, err := os.CreateTemp(dir, ".write-probe-*")
	if err != nil {
		return fmt.Errorf("%w: write to %s: %w", ErrDataDir, dir, err)
	}
	_, err = f.WriteString("ledgerline")
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close(), os.Remove(f.Name())); err != nil {
		return fmt.Errorf("%w: write to %s: %w", ErrDataDir, dir, err)
	}
	return nil
}

// streamsOnDisk lists the streams below dir, in the one account there is. It is
// read before the server starts, since the server skips what it cannot recover
// with no more than a warning.
func streamsOnDisk(dir string) ([]string, error) {
	root := filepath.Join(dir, storeDirName, server.DEFAULT_GLOBAL_ACCOUNT, "streams")
	entries, err := os.ReadDir(root)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: read %s: %w", ErrDataDir, root, err)
	}
	var found []string
	for _, entry := range entries {
		// A leading dot marks a stream whose deletion was cut short; the server
		// finishes it.
		if entry.IsDir() && entry.Name()[0] != '.' {
			found = append(found, entry.Name())
		}
	}
	return found, nil
}
