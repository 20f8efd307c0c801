package sink_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ledgerline/ledgerline/pkg/sink"
)

func TestSpecs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ spec, wrong string }{ // wrong: a part of the error; "" = good
		{"log:", ""},
		{"file:bookings.jsonl", ""},
		{"file:/var/lib/a b/bookings.jsonl", ""},
		{"http://erp.example", ""},
		{"HTTPS://erp:s3cr3t@erp.example:8443/book?x=1", ""},
		{"http://[::1]:8080/", ""},
		{"exec:./book --fast | tee log", ""},
		{"nats:erp.book", ""},
		{" nats:erp.book ", ""},
		{"", "no form"},
		{"log", "no form"},
		{"s3cr3t", "no form"},
		{"log:x", "nothing after"},
		{"file:", "needs a path"},
		{"file: ", "needs a path"},
		{"file:a\x00b", "needs a path"},
		{"exec: ", "needs a command"},
		{"http:", "no host"},
		{"http:///book", "no host"},
		{"http:erp.example", "no host"},
		{"http://:80/", "no host"},
		{"http://erp.example:0/", "port"},
		{"http://erp.example:65536/", "port"},
		{"http://erp:s3cr3t/x@erp.example/", "cannot be read"},
		{"http://erp.example/%s3cr3t", "cannot be read"},
		{"ftp://erp:s3cr3t@erp.example", "no known form"},
		{"kafka:s3cr3t", "no known form"},
		{"nats:", "needs a subject"},
		{"nats:erp.*", "wildcard"},
		{"nats:erp.>", "wildcard"},
		{"nats:erp.b*k", "wildcard"},
		{"nats:erp book", "blank"},
		{"nats:erp\tbook", "blank"},
		{"nats:erp\r\nPUB x 0", "blank"},
		{"nats:.erp", "empty token"},
		{"nats:erp.", "empty token"},
		{"nats:erp..book", "empty token"},
		{"nats:ledgerline.jobs.started", "belong to"},
		{"nats:$JS.API.INFO", "belong to"},
		{"nats:_INBOX.a", "belong to"},
		{"nats:" + strings.Repeat("a", 600), "over 512"},
	} {
		err := sink.Validate(c.spec)
		if c.wrong == "" {
			if err != nil {
				t.Errorf("Validate(%q) = %v, want nil", c.spec, err)
			}
			continue
		}
		if !errors.Is(err, sink.ErrSpec) || !strings.Contains(err.Error(), c.wrong) || !strings.Contains(err.Error(), "LEDGERLINE_SINK") || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("Validate(%q) = %v, want an error of LEDGERLINE_SINK with %q and without the value", c.spec, err, c.wrong)
		}
		if _, openErr := sink.Open(c.spec, sink.Options{}); openErr == nil || err == nil || openErr.Error() != err.Error() {
			t.Errorf("Open(%q) = %v, want Validate's %v", c.spec, openErr, err)
		}
	}
	for _, spec := range []string{"", "kafka:x"} {
		err := sink.Validate(spec)
		for _, form := range []string{"log:", "file:PATH", "http://", "https://", "exec:COMMAND", "nats:SUBJECT"} {
			if err == nil || !strings.Contains(err.Error(), form) {
				t.Errorf("Validate(%q) = %v, want it to name %s", spec, err, form)
			}
		}
	}
}

func TestOpenShowsWhatCannotBeOpened(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, spec := range []string{"file:" + dir, "file:" + filepath.Join(dir, "missing", "bookings.jsonl"), "nats:erp.book"} {
		if _, err := sink.Open(spec, sink.Options{}); !errors.Is(err, sink.ErrSpec) {
			t.Errorf("Open(%q) = %v, want ErrSpec", spec, err)
		}
	}
}
