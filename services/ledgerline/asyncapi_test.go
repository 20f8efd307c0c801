package main

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/ledgerline/ledgerline/pkg/endpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/reconcile"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/steer"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

const asyncDocument = "docs/asyncapi.yaml"

type asyncSchema struct {
	Type         any
	Required     []string
	Properties   map[string]any
	SchemaFormat string `yaml:"schemaFormat"`
	Schema       string
}

type asyncRef struct {
	Ref string `yaml:"$ref"`
}

type asyncAPI struct {
	AsyncAPI string `yaml:"asyncapi"`
	Channels map[string]struct {
		Address    *string
		Stream     string `yaml:"x-stream"`
		Parameters map[string]asyncRef
		Messages   map[string]asyncRef
	}
	Operations map[string]struct {
		Action   string
		Channel  asyncRef
		Messages []asyncRef
		Reply    *struct {
			Channel  asyncRef
			Messages []asyncRef
		}
	}
	Components struct {
		Parameters map[string]any
		Messages   map[string]struct {
			Headers asyncRef
			Payload asyncRef
		}
		Schemas map[string]asyncSchema
	}
}

func readAsyncAPI(t *testing.T) (doc asyncAPI, raw map[string]any) {
	t.Helper()
	text := []byte(read(t, asyncDocument))
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &raw); err != nil {
		t.Fatal(err)
	}
	return doc, raw
}

// Every reference leads somewhere, every operation has its channel and every request
// its reply.
func TestTheAsyncAPIDocumentHoldsTogether(t *testing.T) {
	t.Parallel()
	doc, raw := readAsyncAPI(t)
	if doc.AsyncAPI != "3.0.0" {
		t.Errorf("it is of version %q", doc.AsyncAPI)
	}
	var walk func(any)
	walk = func(node any) {
		switch node := node.(type) {
		case map[string]any:
			if ref, ok := node["$ref"].(string); ok && !leads(raw, ref) {
				t.Errorf("%s leads nowhere", ref)
			}
			for _, child := range node {
				walk(child)
			}
		case []any:
			for _, child := range node {
				walk(child)
			}
		}
	}
	walk(raw)
	used := map[string]bool{}
	for name, op := range doc.Operations {
		used[op.Channel.Ref] = true
		if op.Action != "send" && op.Action != "receive" {
			t.Errorf("operation %s has the action %q", name, op.Action)
		}
		if op.Reply != nil {
			used[op.Reply.Channel.Ref] = true
		}
	}
	for name, channel := range doc.Channels {
		if !used["#/channels/"+name] {
			t.Errorf("nothing happens on channel %s", name)
		}
		if channel.Address == nil {
			continue
		}
		for _, p := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(*channel.Address, -1) {
			if _, ok := channel.Parameters[p[1]]; !ok {
				t.Errorf("channel %s does not say what %s is", name, p[0])
			}
		}
	}
}

// leads follows a reference within the document.
func leads(raw map[string]any, ref string) bool {
	path, ok := strings.CutPrefix(ref, "#/")
	node := any(raw)
	for part := range strings.SplitSeq(path, "/") {
		m, isMap := node.(map[string]any)
		if node = m[part]; !isMap || node == nil {
			return false
		}
	}
	return ok
}

// The addresses are what pkg/subject makes, on the streams that pkg/topology makes,
// and no subject of the code is left out.
func TestTheAsyncAPIDocumentNamesEachSubject(t *testing.T) {
	t.Parallel()
	doc, _ := readAsyncAPI(t)
	company, job := uuid.New(), uuid.New()
	const attempt, digest = "NUID", "0123"
	fill := strings.NewReplacer("{companyId}", company.String(), "{jobId}", job.String(), "{attempt}", attempt, "{digest}", digest,
		"{what}", string(subject.DetectedCompany), "{of}", company.String())
	want := map[string][2]string{
		"jobStarted":        {subject.JobStarted, subject.StreamEvents},
		"items":             {subject.Items(job, attempt), subject.StreamPipe},
		"ready":             {subject.Ready(job), subject.StreamPipe},
		"ledger":            {subject.Ledger(company, job), subject.StreamLedger},
		"booked":            {subject.Booked(company, job), subject.StreamLedger},
		"turn":              {subject.Turn(company), subject.StreamLedger},
		"parkedJob":         {subject.ParkedJob(job), subject.StreamParked},
		"parkedEvent":       {subject.ParkedEvent(digest), subject.StreamParked},
		"jobState":          {"$KV." + subject.BucketJobs + "." + job.String(), "KV_" + subject.BucketJobs},
		"detected":          {subject.Detected(subject.DetectedCompany, company), subject.StreamDetected},
		"gatewayCheck":      {subject.GatewayCheck},
		"fetcherAgain":      {subject.FetcherAgain},
		"consumerEnd":       {subject.ConsumerEnd},
		"consumerSteer":     {subject.ConsumerSteer},
		"consumerReconcile": {subject.ConsumerReconcile},
		"consumerCheck":     {subject.ConsumerCheck},
		"sink":              {"{sinkSubject}"},
		"inbox":             {""},
	}
	addresses := map[string]bool{}
	for name, channel := range doc.Channels {
		address := ""
		if channel.Address != nil {
			address = fill.Replace(*channel.Address)
		}
		addresses[address] = true
		if got := [2]string{address, channel.Stream}; got != want[name] {
			t.Errorf("channel %s is %v, must be %v", name, got, want[name])
		}
	}
	for name := range want {
		if _, there := doc.Channels[name]; !there {
			t.Errorf("channel %s is missing", name)
		}
	}
	for _, text := range subjectsInTheSource(t) {
		named := false
		for address := range addresses {
			named = named || address != "" && matches(text, address)
		}
		if !named {
			t.Errorf("pkg/subject has %q, and no channel of the document is it", text)
		}
	}
}

// matches tells whether a subject, or the beginning of one, or a filter of the code
// stands for an address.
func matches(text, address string) bool {
	tokens, have := strings.Split(strings.TrimRight(text, ".>"), "."), strings.Split(address, ".")
	if len(tokens) > len(have) {
		return false
	}
	for i, token := range tokens {
		if token != "*" && token != have[i] {
			return false
		}
	}
	return true
}

// subjectsInTheSource are the string literals of pkg/subject that begin a subject.
func subjectsInTheSource(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "pkg/subject/*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			literal, ok := n.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(literal.Value)
			metadata := []string{subject.MetadataRole, subject.MetadataJob, subject.MetadataCompany}
			if err == nil && strings.HasPrefix(text, "ledgerline.") && !slices.Contains(metadata, text) {
				all = append(all, text)
			}
			return true
		})
	}
	if len(all) < 15 {
		t.Fatalf("only %v", all)
	}
	return all
}

// The protobuf messages are those of proto/, field by field, with all that they
// contain.
func TestTheAsyncAPIDocumentHasTheMessagesAsTheyAre(t *testing.T) {
	t.Parallel()
	doc, _ := readAsyncAPI(t)
	for name, message := range map[string]proto.Message{
		"JobStarted": &ledgerlinev1.JobStarted{}, "Item": &ledgerlinev1.Item{}, "Manifest": &ledgerlinev1.Manifest{},
		"LedgerRecord": &ledgerlinev1.LedgerRecord{}, "Bookings": &ledgerlinev1.Bookings{}, "Turn": &ledgerlinev1.Turn{},
		"Parked": &ledgerlinev1.Parked{}, "JobState": &ledgerlinev1.JobState{},
	} {
		blocks := map[string]string{}
		describe(message.ProtoReflect().Descriptor(), blocks)
		got := map[string]string{}
		for _, block := range regexp.MustCompile(`(?s)(?:message|enum) (\w+) \{.*?\}`).FindAllStringSubmatch(doc.Components.Schemas[name].Schema, -1) {
			got[block[1]] = strings.Join(strings.Fields(block[0]), " ")
		}
		if !maps.Equal(got, blocks) {
			t.Errorf("%s is\n%v\nand must be\n%v", name, got, blocks)
		}
	}
}

// describe writes a message, and what it is made of, as proto/ has it.
func describe(m protoreflect.MessageDescriptor, to map[string]string) {
	var b strings.Builder
	fmt.Fprintf(&b, "message %s {", m.Name())
	to[string(m.Name())] = ""
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		kind := f.Kind().String()
		switch {
		case f.Message() != nil && f.Message().ParentFile().Package() == m.ParentFile().Package():
			kind = string(f.Message().Name())
			if _, known := to[kind]; !known {
				describe(f.Message(), to)
			}
		case f.Message() != nil:
			kind = string(f.Message().FullName())
		case f.Enum() != nil:
			kind = string(f.Enum().Name())
			values := f.Enum().Values()
			text := "enum " + kind + " {"
			for j := range values.Len() {
				text += fmt.Sprintf(" %s = %d;", values.Get(j).Name(), values.Get(j).Number())
			}
			to[kind] = text + " }"
		}
		if f.IsList() {
			kind = "repeated " + kind
		}
		fmt.Fprintf(&b, " %s %s = %d;", kind, f.Name(), f.Number())
	}
	to[string(m.Name())] = b.String() + " }"
}

// The JSON messages have the names that the code reads and writes, and the headers
// are those that it sets.
func TestTheAsyncAPIDocumentNamesFieldsAndHeaders(t *testing.T) {
	t.Parallel()
	doc, _ := readAsyncAPI(t)
	properties := func(schema string) []string {
		return slices.Sorted(maps.Keys(doc.Components.Schemas[schema].Properties))
	}
	for schema, value := range map[string]any{
		"Again": endpoint.Again{}, "EndDrain": endpoint.EndDrain{}, "DrainEnded": endpoint.DrainEnded{}, "ConsumerCheck": endpoint.Check{},
		"SteerRequest": steer.Request{}, "ReconcileRequest": reconcile.Request{}, "ReconcileReport": reconcile.Report{},
	} {
		var want []string
		for field := range reflect.TypeOf(value).Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			want = append(want, name)
		}
		slices.Sort(want)
		if got := properties(schema); !slices.Equal(got, want) {
			t.Errorf("%s has the fields %v, must have %v", schema, got, want)
		}
	}
	for schema, want := range map[string][]string{
		"EventHeaders":    {subject.HeaderContentType, subject.HeaderTraceparent},
		"ManifestHeaders": {subject.HeaderTraceparent},
	} {
		if got := properties(schema); !slices.Equal(got, want) {
			t.Errorf("%s are %v, must be %v", schema, got, want)
		}
	}

	// What an item is sent with, seen where it arrives.
	var headers, body []string
	web := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		for _, m := range regexp.MustCompile(`"(\w+)":`).FindAllStringSubmatch(string(text), -1) {
			body = append(body, m[1])
		}
		for name := range r.Header {
			if !slices.Contains([]string{"User-Agent", "Content-Length"}, name) {
				headers = append(headers, http.CanonicalHeaderKey(name))
			}
		}
	}))
	defer web.Close()
	to, err := sink.Open(web.URL, sink.Options{Timeout: time.Minute, MaxConcurrent: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	answer := to.Deliver(context.Background(), sink.Delivery{
		JobID: uuid.NewString(), CompanyID: uuid.NewString(), AccountingEntryID: uuid.NewString(),
		Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	})
	if answer.Outcome != sink.Booked {
		t.Fatal(answer)
	}
	slices.Sort(headers)
	slices.Sort(body)
	documented := properties("DeliveryHeaders")
	for i, name := range documented {
		documented[i] = http.CanonicalHeaderKey(name)
	}
	slices.Sort(documented)
	if !slices.Equal(documented, headers) {
		t.Errorf("an item goes out with the headers %v, documented are %v", headers, documented)
	}
	if got := properties("Delivery"); !slices.Equal(got, body) {
		t.Errorf("an item goes out with the fields %v, documented are %v", body, got)
	}
}
