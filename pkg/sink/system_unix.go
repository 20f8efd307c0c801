//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package sink

import (
	"os"
	"os/exec"
	"syscall"
)

// canRunChildren: exec: needs /bin/sh and process groups.
const canRunChildren = true

// ownGroup puts a child and all it starts into a process group of their own: it
// can be killed as a whole, and a Ctrl-C at the terminal does not reach it, so
// that the item in hand is finished.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}

// killGroup kills every process of the group that pid leads. A group that is
// gone is what it wants.
func killGroup(pid int) {
	_ = syscall.Kill(-pid, syscall.SIGKILL)
}

// lockFile waits for the file to be free of other processes' writes, each of
// which takes one write's time.
func lockFile(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err != syscall.EINTR {
			return err
		}
	}
}

func unlockFile(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	return err
}
