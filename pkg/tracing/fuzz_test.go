package tracing

import "testing"

// A header that anybody may have written is a context that is written again as it
// was read, or none.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01",
		"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", "00-AF-B7-01", "", "-", "00---",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		c, ok := Parse(header)
		if !ok {
			return
		}
		again, ok := Parse(c.String())
		if !ok || again != c {
			t.Errorf("%q is read as %q, and that as %q", header, c, again)
		}
	})
}
