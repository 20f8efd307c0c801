//go:build !race

package browser

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/ledgerline/ledgerline/pkg/statuspage"
)

// hostile is a page of texts that would break its layout, or more.
func hostile() scene {
	s := trouble()
	s.name = "hostile"
	long := strings.Repeat("unbreakable", 60)
	last := &s.past[len(s.past)-1].Reading
	for i := range last.Jobs {
		last.Jobs[i].Reason, last.Jobs[i].Worker = long, long
	}
	last.Parked = append(last.Parked,
		statuspage.Parked{JobID: long, Reason: `<script>document.title = "taken"</script><img src=x onerror="document.title='taken'">`},
		statuspage.Parked{Event: true, Reason: strings.Repeat("\u202e\u200f \u0639\u0631\u0628\u064a ", 20)},
	)
	return s
}

var scenes = []scene{empty(), busy(), trouble(), hostile()}

func TestReadsWithoutAScript(t *testing.T) {
	t.Parallel()
	p := open(t, preview(t, trouble()).URL, look{width: phone.width, height: phone.height, noJS: true})
	ctx := p.ctx
	text, err := chromedp.Run(ctx, chromedp.Text("body"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"3 things need you", "MISSING_CONTRA_ACCOUNTS", "412 of 860", "38 min to the deadline", "As of 12:00:00 UTC", "Items waiting, last hour"} {
		if !strings.Contains(text, part) {
			t.Errorf("the page does not say %q:\n%s", part, text)
		}
	}
	value, err := chromedp.Run(ctx, chromedp.AttributeValue("#job-"+id("stuck")+"-bar", "value"))
	if err != nil || value.Value != "412" {
		t.Errorf("the bar stands at %q, %v", value.Value, err)
	}
	refresh, err := chromedp.Run(ctx, chromedp.AttributeValue(`meta[http-equiv="refresh"]`, "content"))
	if err != nil || refresh.Value != "10" {
		t.Errorf("the page loads itself anew after %q, %v", refresh.Value, err)
	}
}

func TestSignsInAndCancelsWithoutAScript(t *testing.T) {
	t.Parallel()
	p := open(t, preview(t, busy()).URL, look{width: desk.width, height: desk.height, noJS: true})
	p.signIn()
	p.do("ask to cancel", chromedp.Click(`a[href="/status/jobs/`+id("march-north")+`/cancel"]`), chromedp.WaitVisible(`form[action$="/cancel"]`))
	text, err := chromedp.Run(p.ctx, chromedp.Text("main"))
	if err != nil || !strings.Contains(text, id("march-north")) || !strings.Contains(text, "cannot be taken back") {
		t.Errorf("it asks %q, %v", text, err)
	}
}

// contrasts is a list of every text on the page that stands out less than WCAG 2.2
// AA asks for, and of every bar that does.
const contrasts = `(() => {
  const rgb = (text) => { const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number); return { r, g, b, a }; };
  const over = (top, under) => ({ r: top.r * top.a + under.r * (1 - top.a), g: top.g * top.a + under.g * (1 - top.a), b: top.b * top.a + under.b * (1 - top.a), a: 1 });
  const ground = (e) => { const chain = []; for (let n = e; n; n = n.parentElement) chain.push(rgb(getComputedStyle(n).backgroundColor));
    return chain.reverse().reduce((under, top) => over(top, under), { r: 255, g: 255, b: 255, a: 1 }); };
  const light = ({ r, g, b }) => [r, g, b].map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (a, b) => { const [hi, lo] = [light(a), light(b)].sort((x, y) => y - x); return (hi + 0.05) / (lo + 0.05); };
  const faults = []; let seen = 0;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement, style = getComputedStyle(e);
    if (!walk.currentNode.data.trim() || !e.checkVisibility() || e.closest("script, noscript, style, progress, title")) continue;
    seen++;
    const got = ratio(over(rgb(style.color), ground(e)), ground(e));
    if (got < 4.5) faults.push(e.className + " " + e.tagName + " " + walk.currentNode.data.trim().slice(0, 40) + ": " + got.toFixed(2));
  }
  for (const e of document.querySelectorAll("progress")) {
    const track = rgb(getComputedStyle(e).backgroundColor), bar = rgb(getComputedStyle(e).color);
    if (ratio(track, bar) < 3) faults.push("a bar of " + e.id + ": " + ratio(track, bar).toFixed(2));
  }
  if (seen < 5) faults.push("only " + seen + " texts were found");
  return faults.join("\n");
})()`

// names are of everything that can be pressed or measured and has none.
const nameless = `[...document.querySelectorAll("button, a, progress, svg[role=img], input")].filter((e) => {
  const name = e.getAttribute("aria-label") ?? e.innerText ?? "";
  return !(name.trim() || e.labels?.length);
}).map((e) => e.outerHTML).join("\n")`

// Every state, in both themes and on each width: nothing to be scrolled sideways,
// nothing hard to read, nothing without a name, nothing from elsewhere.
func TestLooksRight(t *testing.T) {
	t.Parallel()
	for _, s := range scenes {
		for _, l := range []look{{width: 360, height: 740}, dark(phone), desk, dark(desk)} {
			t.Run(fmt.Sprintf("%s/%d/dark=%t", s.name, l.width, l.dark), func(t *testing.T) {
				t.Parallel()
				p := open(t, preview(t, s).URL, l)
				if s.name == "trouble" {
					p.do("look at the door", chromedp.Navigate(p.url+"/status/sign-in"))
					p.check()
				}
				p.signIn()
				p.until("the page is live", `document.getElementById("link").dataset.state === "live"`)
				p.check()
				if s.name == "trouble" {
					for _, path := range []string{"/status/jobs/" + id("stuck") + "/cancel", "/status/jobs/x/cancel"} {
						p.do("go on", chromedp.Navigate(p.url+path))
						p.check()
					}
				}
			})
		}
	}
}

func (p *tab) check() {
	p.t.Helper()
	where := ask[string](p, "location.pathname")
	if wide := ask[int](p, "document.documentElement.scrollWidth - innerWidth"); wide > 0 {
		p.t.Errorf("%s is %d pixels too wide", where, wide)
	}
	if faults := ask[string](p, contrasts); faults != "" {
		p.t.Errorf("%s is hard to read:\n%s", where, faults)
	}
	if faults := ask[string](p, nameless); faults != "" {
		p.t.Errorf("%s has something without a name:\n%s", where, faults)
	}
	if foreign := ask[string](p, `performance.getEntriesByType("resource").map((e) => e.name).filter((n) => !n.startsWith(location.origin)).join(" ")`); foreign != "" {
		p.t.Errorf("%s loads %s", where, foreign)
	}
	if title := ask[string](p, "document.title"); strings.Contains(title, "taken") {
		p.t.Errorf("%s: a script of others ran", where)
	}
}

// Whoever goes by the keyboard sees where they are.
func TestTheKeyboardSeesWhereItIs(t *testing.T) {
	t.Parallel()
	p := open(t, preview(t, busy()).URL, desk)
	p.signIn()
	for range 8 {
		p.do("go on", chromedp.KeyEvent("\t"))
		if got := ask[string](p, `(({ outlineStyle, outlineWidth }) => outlineStyle + " " + outlineWidth)(getComputedStyle(document.activeElement))`); got != "solid 3px" {
			t.Errorf("%s has the outline %q", ask[string](p, "document.activeElement.outerHTML"), got)
		}
	}
}
