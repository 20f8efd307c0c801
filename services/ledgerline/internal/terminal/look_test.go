package terminal

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatIsNoTerminalIsPlain(t *testing.T) {
	t.Parallel()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if a, b := Of(file), Of(&bytes.Buffer{}); a != (Look{}) || b != (Look{}) {
		t.Errorf("%+v and %+v", a, b)
	}
	plain := Look{}
	if text := plain.Strong("a") + plain.Soft("b") + plain.Good("c") + plain.Bad("d") + plain.Mark(true) + plain.Mark(false); text != "abcd" {
		t.Errorf("%q", text)
	}
}

func TestColoursAreClosed(t *testing.T) {
	t.Parallel()
	l := Look{Width: 80, Unicode: true, Colour: true}
	for _, text := range []string{l.Strong("x"), l.Soft("x"), l.Good("x"), l.Bad("x"), l.Mark(true), l.Mark(false)} {
		if !strings.HasPrefix(text, "\x1b[") || !strings.HasSuffix(text, "\x1b[0m") {
			t.Errorf("%q", text)
		}
	}
	if l.Soft("") != "" {
		t.Error("nothing is painted")
	}
}

func TestTheLocaleDecides(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		all, ctype, lang string
		want             bool
	}{
		{"", "", "", false}, {"", "", "C.UTF-8", true}, {"", "", "de_DE.utf8", true}, {"", "", "C", false},
		{"C", "", "en_GB.UTF-8", false}, {"", "en_GB.UTF-8", "C", true},
	} {
		env := map[string]string{"LC_ALL": c.all, "LC_CTYPE": c.ctype, "LANG": c.lang}
		if got := unicode(func(name string) string { return env[name] }); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 999: "999", 1_000: "1,000", 1_234_567: "1,234,567", -1_000: "-1,000", -100: "-100"} {
		if got := Count(n); got != want {
			t.Errorf("%d is %q", n, got)
		}
	}
}
