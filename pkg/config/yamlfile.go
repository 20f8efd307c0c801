package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

const (
	// MaxFileBytes bounds the configuration file: there are some fifty settings.
	MaxFileBytes = 1 << 20

	// maxFileDepth bounds nested maps; the longest flag has four words.
	maxFileDepth = 8
)

// fileValue is one setting of the file and where it stands.
type fileValue struct {
	text string
	line int
}

// settingsFile is the file as read: values by flag name.
type settingsFile struct {
	path   string
	values map[string]fileValue
	faults Faults

	credentials     []Credential
	credentialsLine int // 0: the file has no list
}

// readFile reads path. Keys are the flags' names, or nested maps whose keys make
// one when joined by dashes:
//
//	pleo-url: https://external.pleo.io
//	pleo:
//	  token-file: /run/secrets/pleo
//
// Nothing of the file's content is quoted in a fault but known names and keys.
func readFile(path string) *settingsFile {
	f := &settingsFile{path: path, values: map[string]fileValue{}}
	content, err := readBounded(path)
	if err != nil {
		f.faults = append(f.faults, Fault{
			Setting: "LEDGERLINE_CONFIG", flag: "--config", value: fmt.Sprintf("%q", path),
			Problem: "cannot be read: " + err.Error(), WayOut: "give the path of a readable YAML file",
		})
		return f
	}
	f.parse(content)
	return f
}

// parse takes the settings of a file's content.
func (f *settingsFile) parse(content []byte) {
	parsed, err := parser.ParseBytes(content, 0)
	if err != nil {
		f.add(errorLine(err), "is not YAML", "look at this line and the one above; a value with a colon at its end, such as \"log:\", wants quotes")
		return
	}
	documents := slices.DeleteFunc(parsed.Docs, func(d *ast.DocumentNode) bool { return isEmpty(d.Body) })
	if len(documents) > 1 {
		f.add(documents[1].Body.GetToken().Position.Line, "begins a second document", "keep one document")
		return
	}
	for _, document := range documents {
		f.take("", document.Body, 0)
	}
}

func isEmpty(node ast.Node) bool {
	if node == nil {
		return true
	}
	switch node.(type) {
	case *ast.NullNode, *ast.CommentNode, *ast.CommentGroupNode:
		return true
	}
	return false
}

func readBounded(path string) (content []byte, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	content, err = io.ReadAll(io.LimitReader(file, MaxFileBytes+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	if len(content) > MaxFileBytes {
		return nil, fmt.Errorf("it is larger than %d bytes", MaxFileBytes)
	}
	return content, nil
}

// errorLine finds the line of a syntax error; its message quotes the file and
// is not shown.
func errorLine(err error) int {
	var syntax yaml.Error
	if errors.As(err, &syntax) && syntax.GetToken() != nil {
		return syntax.GetToken().Position.Line
	}
	return 1
}

func (f *settingsFile) add(line int, problem, wayOut string) {
	f.faults = append(f.faults, Fault{Setting: fmt.Sprintf("%s:%d", f.path, line), Problem: problem, WayOut: wayOut})
}

// take reads node, which stands below the key that prefix makes.
func (f *settingsFile) take(prefix string, node ast.Node, depth int) {
	line := lineOf(node)
	if depth > maxFileDepth {
		f.add(line, "is nested too deeply", "use the flags' names as keys")
		return
	}
	if prefix == credentialsKey {
		f.takeCredentials(node, line)
		return
	}
	entries, isMap := mapEntries(node)
	if !isMap {
		if prefix == "" {
			f.add(line, "is no map of settings", "write `key: value` lines, with the flags' names as keys")
			return
		}
		f.takeValue(prefix, node, line)
		return
	}
	for _, entry := range entries {
		key, ok := entry.Key.(ast.Node).(*ast.StringNode)
		if !ok {
			f.add(entry.Key.GetToken().Position.Line, "has a key that is no name", "use the flags' names as keys")
			continue
		}
		name := key.Value
		if prefix != "" {
			name = prefix + "-" + name
		}
		f.take(name, entry.Value, depth+1)
	}
}

func lineOf(node ast.Node) int {
	if token := node.GetToken(); token != nil {
		return token.Position.Line
	}
	return 1
}

// mapEntries are the entries of a map, which has a node of its own where it has
// only one.
func mapEntries(node ast.Node) ([]*ast.MappingValueNode, bool) {
	switch node := node.(type) {
	case *ast.MappingNode:
		return node.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{node}, true
	}
	return nil, false
}

// scalar is the text of a single value; given is false for null.
func scalar(node ast.Node) (text string, given, ok bool) {
	switch node := node.(type) {
	case *ast.NullNode:
		return "", false, true
	case *ast.StringNode:
		return node.Value, true, true
	case *ast.LiteralNode:
		return node.Value.Value, true, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return node.GetToken().Value, true, true
	}
	return "", false, false
}

func (f *settingsFile) takeValue(name string, node ast.Node, line int) {
	if !knownInFile(name) {
		wayOut := "remove it"
		// The variable's name is what many try first.
		asFlag := strings.TrimPrefix(strings.ToLower(strings.ReplaceAll(name, "_", "-")), "ledgerline-")
		if near := nearest(asFlag, fileNames()); near != "" {
			wayOut = "did you mean " + near + "?"
		}
		f.add(line, fmt.Sprintf("has the key %q, which is no setting", name), wayOut)
		return
	}
	if earlier, twice := f.values[name]; twice {
		f.add(line, fmt.Sprintf("sets %s again, after line %d", name, earlier.line), "keep one of them")
		return
	}
	text, given, ok := scalar(node)
	if !ok {
		f.add(line, fmt.Sprintf("gives %s something other than a single value", name), "write one text, number or true or false")
		return
	}
	if !given {
		return
	}
	f.values[name] = fileValue{text: text, line: line}
}

// fileNames are the keys that a file may have. The file's own path is none.
func fileNames() []string {
	names := []string{credentialsKey}
	for _, s := range settings {
		if s.name == "LEDGERLINE_CONFIG" {
			continue
		}
		names = append(names, s.flag)
		if s.secret {
			names = append(names, s.flag+fileFlag)
		}
	}
	return names
}

func knownInFile(name string) bool { return slices.Contains(fileNames(), name) }
