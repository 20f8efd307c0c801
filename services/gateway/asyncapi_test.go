package gateway

import (
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// docs/asyncapi.yaml has the fields of what is asked of a gateway, answered and
// queued; all else of it services/ledgerline compares.
func TestTheAsyncAPIDocumentKnowsTheGatewaysMessages(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/asyncapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Components struct {
			Schemas map[string]struct{ Properties map[string]any }
		}
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	for schema, value := range map[string]any{"CheckRequest": request{}, "CheckOutcome": outcome{}, "Detection": detection{}} {
		var want []string
		for field := range reflect.TypeOf(value).Fields() {
			if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" {
				want = append(want, name)
			}
		}
		slices.Sort(want)
		if got := slices.Sorted(maps.Keys(doc.Components.Schemas[schema].Properties)); !slices.Equal(got, want) {
			t.Errorf("%s has the fields %v, must have %v", schema, got, want)
		}
	}
}
