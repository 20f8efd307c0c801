//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// ownGroup keeps a signal to our process group from the program that takes the
// installation down: the terminal's Ctrl-C goes to all of it.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
