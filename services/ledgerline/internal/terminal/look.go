// Package terminal is how our commands look on a terminal: one kind of bar, four
// colours of the person's own theme, and none of both where the terminal, or who
// sits at it, wants none.
package terminal

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/vbauerster/mpb/v8"
	"golang.org/x/term"
)

// Look is what a terminal can show. The zero Look is plain text.
type Look struct {
	// Width in columns; 0 where it is no terminal, or one that does not tell.
	Width int
	// Unicode is whether it takes more than ASCII.
	Unicode bool
	// Colour is whether it has some and nobody objects (NO_COLOR).
	Colour bool
}

// Of looks at where output goes.
func Of(out io.Writer) Look {
	file, ok := out.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return Look{}
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return Look{}
	}
	return Look{Width: width, Unicode: unicode(os.Getenv), Colour: os.Getenv("NO_COLOR") == ""}
}

// unicode reads the locale as the C library does: the first of these that is set.
func unicode(env func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if locale := strings.ToLower(env(name)); locale != "" {
			return strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8")
		}
	}
	return false
}

// The colours are the terminal's own sixteen, so that they suit its ground.
const (
	bold  = "1"
	soft  = "2"
	red   = "31"
	green = "32"
	cyan  = "36"
	grey  = "90"
)

func (l Look) paint(code, text string) string {
	if !l.Colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Strong is for what is read first.
func (l Look) Strong(text string) string { return l.paint(bold, text) }

// Soft is for what may be read last.
func (l Look) Soft(text string) string { return l.paint(soft, text) }

// Good is for what went well.
func (l Look) Good(text string) string { return l.paint(bold+";"+green, text) }

// Bad is for what did not.
func (l Look) Bad(text string) string { return l.paint(bold+";"+red, text) }

// Mark stands before a line that went well, or did not.
func (l Look) Mark(good bool) string {
	switch {
	case l.Unicode && good:
		return l.Good("✓ ")
	case l.Unicode:
		return l.Bad("✗ ")
	default:
		return ""
	}
}

// Bar is how a bar is filled.
func (l Look) Bar() mpb.BarStyleComposer {
	if !l.Unicode {
		return mpb.BarStyle().Filler("=").Tip(">").Padding("-")
	}
	fill := func(text string) string { return l.paint(cyan, text) }
	return mpb.BarStyle().Lbound("").Rbound("").
		Filler("━").FillerMeta(fill).Tip("╸").TipMeta(fill).
		Padding("─").PaddingMeta(func(text string) string { return l.paint(grey, text) })
}

// Count writes 12345 as 12,345.
func Count(n int64) string {
	digits := fmt.Sprint(n)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
