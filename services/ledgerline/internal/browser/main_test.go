//go:build !race

package browser

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/statuspage"
)

var update = flag.Bool("update", false, "write the pictures of docs/images anew")

const (
	// patience bounds a wait for something that must come; a browser that starts
	// on a busy machine takes its time.
	patience = 2 * time.Minute
	token    = "a token that is long enough"
)

// names under which a Chromium or a Chrome is installed.
var names = []string{"chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "headless-shell"}

// chrome is one browser for all tests, each of which has a tab with cookies of
// its own.
var chrome = sync.OnceValues(func() (context.Context, error) {
	path := os.Getenv("LEDGERLINE_TEST_BROWSER")
	for _, name := range names {
		if found, err := exec.LookPath(name); err == nil && path == "" {
			path = found
		}
	}
	if path == "" {
		return nil, errNoBrowser
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		// Root, as in a container, has no sandbox. What is loaded is our own page.
		chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("hide-scrollbars", true), chromedp.Flag("font-render-hinting", "none"),
		chromedp.WSURLReadTimeout(patience),
	)
	ctx, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, _ = chromedp.NewContext(ctx)
	stopChrome = func() error { defer stop(); return chromedp.Cancel(ctx) }
	return ctx, chromedp.Do(ctx)
})

var (
	errNoBrowser = errors.New("no Chromium is installed: scripts/packages installs it")
	stopChrome   = func() error { return nil }
)

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if err := stopChrome(); err != nil {
		fmt.Fprintln(os.Stderr, "stop the browser:", err)
	}
	os.Exit(code)
}

// tab is one page of the browser.
type tab struct {
	t   *testing.T
	ctx context.Context
	url string
}

// look is how a person looks at a page.
type look struct {
	width, height int64
	dark, noJS    bool
	scale         float64
}

var (
	phone = look{width: 390, height: 844}
	desk  = look{width: 1280, height: 800}
)

// open makes a tab; it is closed when the test ends.
func open(t *testing.T, url string, l look) *tab {
	t.Helper()
	parent, err := chrome()
	if errors.Is(err, errNoBrowser) {
		t.Skip("NOTE: SKIPPED: the status page is not looked at:", err)
	}
	if err != nil {
		t.Fatal("start the browser:", err)
	}
	ctx, closeTab := chromedp.NewContext(parent, chromedp.WithNewBrowserContext())
	t.Cleanup(closeTab)
	scheme := "light"
	if l.dark {
		scheme = "dark"
	}
	p := &tab{t: t, ctx: ctx, url: url}
	p.do("set the tab up",
		chromedp.EmulateViewport(l.width, l.height, chromedp.EmulateScale(max(l.scale, 1))),
		chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
			_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
				{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
			}})
			if err != nil || !l.noJS {
				return err
			}
			_, err = chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
			return err
		}),
		chromedp.Navigate(url),
	)
	return p
}

// do runs steps within the patience.
func (p *tab) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	// The first action of a tab opens it, for as long as its context lives.
	if err := chromedp.Do(p.ctx); err != nil {
		p.t.Fatalf("open a tab: %v", err)
	}
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.t.Fatalf("%s: %v", what, err)
	}
}

// ask evaluates an expression of the page.
func ask[T any](p *tab, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// until waits until an expression of the page holds.
func (p *tab) until(what, expression string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	_, err := chromedp.Run(ctx, chromedp.Poll[bool](expression, chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(patience)))
	if err != nil {
		p.t.Fatalf("wait until %s: %v\nthe page says: %s", what, err, ask[string](p, "document.body.innerText"))
	}
}

// preview serves a scene.
func preview(t *testing.T, s scene) *httptest.Server {
	t.Helper()
	page := statuspage.New(statuspage.Options{
		Program: "ledgerline up", Version: "v1.0.0", Logger: zerolog.Nop(),
		Token: func() (string, error) { return token, nil },
	})
	page.Preview(s.past)
	server := httptest.NewServer(page)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server
}

// signIn gives the token as a person does.
func (p *tab) signIn() {
	p.t.Helper()
	p.do("sign in",
		chromedp.Navigate(p.url+"/status/sign-in"),
		chromedp.SendKeys("#token", token),
		chromedp.Submit("#token"),
		chromedp.WaitVisible("#headline"),
	)
}
