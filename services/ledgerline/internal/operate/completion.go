package operate

import (
	"fmt"

	"github.com/alecthomas/kong"
	kongcompletion "github.com/jotaen/kong-completion"
)

// Completion is `ledgerline completion bash|zsh|fish`.
type Completion struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish; e.g. add source <(ledgerline completion bash) to ~/.bashrc."`
}

// Run prints the shell's code, which calls this program at its present place.
func (c *Completion) Run(s *Session) error {
	// The library ends the program where it is done; here the caller does.
	s.Runtime.Command.Exit = func(int) {}
	if err := (&kongcompletion.Completion{Shell: c.Shell, Code: true}).Run(s.Runtime.Command); err != nil {
		return fmt.Errorf("print the completion for %s: %w", c.Shell, err)
	}
	return nil
}

// Complete answers the shell where it asks for completions, and ends the program
// then.
func Complete(parser *kong.Kong) { kongcompletion.Register(parser) }
