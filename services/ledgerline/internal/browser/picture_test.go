//go:build !race

package browser

import (
	"bytes"
	"cmp"
	"context"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chromedp/chromedp"
)

// pictures is where the documents' pictures are.
const pictures = "../../../../docs/images"

// The pictures of the documents, which -update writes anew for a person to look at.
// They are the same each time, with the font Inter installed (fonts-inter).
func TestPictures(t *testing.T) {
	if !*update {
		checkPictures(t)
		return
	}
	for _, s := range []scene{empty(), busy(), trouble()} {
		server := preview(t, s)
		for _, l := range []struct {
			name string
			look look
		}{{"phone", phone}, {"desk", desk}, {"phone-dark", dark(phone)}, {"desk-dark", dark(desk)}} {
			if s.name == "empty" && l.look.dark {
				continue // it shows nothing that the others don't
			}
			p := open(t, server.URL, l.look)
			p.signIn()
			p.until("the page is live", `document.getElementById("link").dataset.state === "live"`)
			height := ask[int64](p, "document.documentElement.scrollHeight")
			ctx, cancel := context.WithTimeout(p.ctx, patience)
			picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
			cancel()
			if err != nil {
				t.Fatalf("take a picture %d high: %v", height, err)
			}
			if picture, err = small(picture); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(pictures, "status-"+s.name+"-"+l.name+".png"), picture, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// maxPictures keeps a clone small.
const maxPictures = 1_500_000

// checkPictures insists that there are some, and not too large.
func checkPictures(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(pictures, "status-*.png"))
	if err != nil || len(files) < 6 {
		t.Errorf("%d pictures, %v: -update writes them", len(files), err)
	}
	var size int64
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size > maxPictures {
		t.Errorf("the pictures have %d bytes, more than %d", size, maxPictures)
	}
}

// maxColours is what a PNG with a palette can hold. The page has a few dozen colours
// and their shades at the edges of letters.
const maxColours = 256

// small writes a picture with its most frequent colours: a quarter of the bytes, and
// no difference to see.
func small(full []byte) ([]byte, error) {
	from, err := png.Decode(bytes.NewReader(full))
	if err != nil {
		return nil, err
	}
	size := from.Bounds()
	uses := map[color.RGBA]int{}
	for y := size.Min.Y; y < size.Max.Y; y++ {
		for x := size.Min.X; x < size.Max.X; x++ {
			uses[color.RGBAModel.Convert(from.At(x, y)).(color.RGBA)]++
		}
	}
	all := slices.SortedFunc(maps.Keys(uses), func(a, b color.RGBA) int {
		return cmp.Or(cmp.Compare(uses[b], uses[a]), cmp.Compare(a.R, b.R), cmp.Compare(a.G, b.G), cmp.Compare(a.B, b.B))
	})
	var palette color.Palette
	frequent := min(len(all), maxColours*3/4)
	for _, c := range all[:frequent] {
		palette = append(palette, c)
	}
	// The rest of the places go to what would be missed most, such as a small
	// green dot.
	for rest := all[frequent:]; len(palette) < maxColours && len(rest) > 0; {
		miss := func(c color.RGBA) int { return distance(c, palette[palette.Index(c)].(color.RGBA)) * uses[c] }
		worst := slices.MaxFunc(rest, func(a, b color.RGBA) int { return cmp.Compare(miss(a), miss(b)) })
		palette = append(palette, worst)
		rest = slices.DeleteFunc(rest, func(c color.RGBA) bool { return c == worst })
	}
	to := image.NewPaletted(size, palette)
	known := map[color.RGBA]uint8{}
	for y := size.Min.Y; y < size.Max.Y; y++ {
		for x := size.Min.X; x < size.Max.X; x++ {
			c := color.RGBAModel.Convert(from.At(x, y)).(color.RGBA)
			i, ok := known[c]
			if !ok {
				i = uint8(palette.Index(c))
				known[c] = i
			}
			to.SetColorIndex(x, y, i)
		}
	}
	var out bytes.Buffer
	err = (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, to)
	return out.Bytes(), err
}

func distance(a, b color.RGBA) int {
	r, g, bl := int(a.R)-int(b.R), int(a.G)-int(b.G), int(a.B)-int(b.B)
	return r*r + g*g + bl*bl
}

func dark(l look) look {
	l.dark = true
	return l
}
