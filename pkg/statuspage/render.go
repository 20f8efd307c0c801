package statuspage

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"

	"github.com/ledgerline/ledgerline/pkg/logevent"
)

//go:embed assets
var assets embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"title": func(a Action) string { return actionLabels[a] },
	"slot":  func(r row, steers bool) slot { return slot{r, steers} },
}).ParseFS(assets, "assets/*.html"))

var (
	styles = mustRead("assets/page.css")
	script = mustRead("assets/page.js")
	// assetVersion is in the assets' addresses, so that they may be kept for ever.
	assetVersion = digest(styles, script)
)

func mustRead(name string) []byte {
	content, err := assets.ReadFile(name)
	if err != nil {
		panic(err) // it is built in
	}
	return content
}

func digest(parts ...[]byte) string {
	sum := sha256.Sum256(bytes.Join(parts, nil))
	return hex.EncodeToString(sum[:6])
}

// icons are the page's icon in a browser's tab, by tone.
var icons = map[tone]string{
	toneBad: "#c5221f", toneWarn: "#b06f00", toneBusy: "#2a5bd7", toneGood: "#1b7f4b", toneQuiet: "#6b7480",
}

// icon is a ledger's three lines on the tone's colour.
func icon(t tone) []byte {
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="%s"/>`+
		`<path d="M8 10h16M8 16h16M8 22h9" stroke="#fff" stroke-width="3" stroke-linecap="round"/></svg>`, icons[t])
}

// fragment is what changes on the page, for the template.
type fragment struct {
	*view
	// Steers is true for whoever is signed in; CanSteer where a token is
	// configured.
	Steers bool
}

// slot is a row for whoever looks at it.
type slot struct {
	row
	Steers bool
}

func (s *shown) render(steers bool) ([]byte, error) {
	r := &s.renders[0]
	if steers {
		r = &s.renders[1]
	}
	r.once.Do(func() {
		r.html, r.err = execute("live", fragment{view: s.view, Steers: steers})
	})
	return r.html, r.err
}

func execute(name string, data any) ([]byte, error) {
	var out bytes.Buffer
	if err := templates.ExecuteTemplate(&out, name, data); err != nil {
		return nil, fmt.Errorf("render %s: %w", name, err)
	}
	return out.Bytes(), nil
}

func (p *Page) renderFailed(err error) {
	p.log.Error().Err(err).Msg(logevent.StatusNotRendered)
}
