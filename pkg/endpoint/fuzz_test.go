package endpoint

import (
	"errors"
	"testing"
)

// What services ask one another is read whole, or refused with a reason.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"jobId":"a","run":1,"reason":"r"}`, `{}`, `{"more":1}`, `{"run":-1}`, `[]`, `null`, ``, `{"jobId":7}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, request := range []any{new(EndDrain), new(Again)} {
			err := Decode(data, request)
			var refused *RefusedError
			if err != nil && (!errors.As(err, &refused) || refused.Code != "400" || refused.Text == "") {
				t.Errorf("an error of no kind: %v", err)
			}
		}
	})
}
