//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package sink

import (
	"os"
	"os/exec"
)

// canRunChildren is false: no /bin/sh, no process groups; Open refuses exec:.
const canRunChildren = false

func ownGroup(*exec.Cmd) {}

func killGroup(int) {}

// lockFile has nothing to lock with here: one process per file.
func lockFile(*os.File) error { return nil }

func unlockFile(*os.File) error { return nil }

// syncDir: a directory cannot be synced here.
func syncDir(string) error { return nil }
