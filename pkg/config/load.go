package config

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Program is who reads the settings, and from where.
type Program struct {
	Name        string // as typed: "fetcher"
	Description string // what it does, for --help
	Version     string // shown by --version

	Args    []string // without the program's own name
	Environ []string // NAME=value
	Stdout  io.Writer
	Stderr  io.Writer // looked at for being a terminal; Load writes nothing to it

	// Parser is shown the parser before it reads the command line, such as for
	// shell completion; nil for nobody. It may end the program by the parser's Exit.
	Parser func(*kong.Kong)
}

// Loaded is what a Load has found.
type Loaded struct {
	// Command is the chosen command. Programs with commands call its Run with what
	// their Run methods ask for.
	Command *kong.Context

	groups []any // pointers to the groups on the chosen path
	loader *loader
}

// Load fills cfg, a pointer to a struct of groups and, where the program has
// commands, of kong commands. The command line goes before the environment, that
// before the file in LEDGERLINE_CONFIG or --config, that before the default. An
// environment variable that is empty counts as one that is not set.
//
// Every group on the way to the chosen command is checked by its Validate, if it
// has one:
//
//	Validate() config.Faults
//
// Errors: ErrHandled after --help and --version; *Error with every fault that
// there is. Load writes help and version to p.Stdout, and nothing else anywhere.
func Load(p Program, cfg any) (*Loaded, error) {
	environ := readEnviron(p.Environ)
	args := slices.Clone(p.Args)
	var usage Faults
	var behind string // the word behind the last unknown flag: most likely its value
	for {
		l := newLoader(p, environ)
		err := l.parse(cfg, args)
		switch {
		case err == nil:
			return l.finish(p, usage)
		case !isParseError(err):
			return nil, err
		}
		word, isFlag := strayWord(err)
		fault := Fault{Problem: err.Error(), WayOut: "see " + p.Name + " --help"}
		switch {
		case l.applied:
			// What is missing, such as a command's argument: everything else was read.
			// It may be missing only because a stray word was left out below.
			if len(usage) == 0 {
				usage = append(usage, fault)
			}
			return l.finish(p, usage)
		case isFlag || word == "" || word != behind:
			usage = append(usage, fault)
		}
		// A stray word ends kong's parse. It is left out and the rest is parsed
		// again, so that the other faults are found as well.
		i := slices.IndexFunc(args, func(arg string) bool {
			return arg == word || isFlag && strings.HasPrefix(arg, word+"=")
		})
		if word == "" || i < 0 {
			// Not to be read at all. What does not come from the command line still is.
			command := leadingCommand(l.kong, p.Args)
			l = newLoader(p, environ)
			if err := l.parse(cfg, command); err != nil && !l.applied {
				return nil, append(usage, unknownNames(environ)...).Err(p.Name)
			}
			return l.finish(p, usage)
		}
		if behind = ""; isFlag && args[i] == word && i+1 < len(args) {
			behind = args[i+1]
		}
		args = slices.Delete(args, i, i+1)
	}
}

func isParseError(err error) bool {
	var parse *kong.ParseError
	return errors.As(err, &parse)
}

// strayWord takes the word that kong could not place out of its message; its
// error types are its own.
func strayWord(err error) (word string, isFlag bool) {
	message, _, _ := strings.Cut(err.Error(), ", did you mean ")
	if word, found := strings.CutPrefix(message, "unknown flag "); found {
		return word, true
	}
	word, found := strings.CutPrefix(message, "unexpected argument ")
	if !found {
		return "", false
	}
	return word, false
}

// leadingCommand is the words of args that name a command.
func leadingCommand(k *kong.Kong, args []string) []string {
	node, depth := k.Model.Node, 0
	for _, arg := range args {
		i := slices.IndexFunc(node.Children, func(child *kong.Node) bool { return child.Name == arg })
		if i < 0 {
			break
		}
		node = node.Children[i]
		depth++
	}
	return args[:depth]
}

// readEnviron keeps the first of two equal names, as the system's own look-up
// does.
func readEnviron(environ []string) map[string]string {
	values := make(map[string]string, len(environ))
	for _, entry := range environ {
		name, value, found := strings.Cut(entry, "=")
		if _, twice := values[name]; found && !twice {
			values[name] = value
		}
	}
	return values
}

const (
	fromCommandLine = "the command line"
	fromEnvironment = "the environment"
)

// loader is one parse.
type loader struct {
	program Program
	environ map[string]string
	kong    *kong.Kong
	ctx     *kong.Context
	general general
	file    *settingsFile
	secrets []*secretFlags

	source  string // of the value that is decoded next; empty for a default
	origins map[string]origin
	faults  Faults
	applied bool // the groups are filled
}

// origin is where a setting's value came from and how it was written there.
type origin struct{ source, text string }

func newLoader(p Program, environ map[string]string) *loader {
	return &loader{program: p, environ: environ, source: fromCommandLine, origins: map[string]origin{}}
}

// exitAsked is what kong's Exit throws after it has printed help or version.
type exitAsked struct{}

func (l *loader) parse(cfg any, args []string) (err error) {
	l.kong, err = kong.New(cfg, l.options()...)
	if err != nil {
		return fmt.Errorf("config: the settings of %s: %w", l.program.Name, err)
	}
	defer func() {
		if asked := recover(); asked != nil {
			if _, ok := asked.(exitAsked); !ok {
				panic(asked)
			}
			err = ErrHandled
		}
	}()
	if l.program.Parser != nil {
		l.program.Parser(l.kong)
	}
	l.ctx, err = l.kong.Parse(args)
	if err != nil {
		var parse *kong.ParseError
		if errors.As(err, &parse) {
			l.ctx = parse.Context
		}
	}
	return err
}

func (l *loader) options() []kong.Option {
	return slices.Concat(decoders(l), helpOptions(l.program), []kong.Option{
		kong.Embed(&l.general),
		kong.Writers(l.program.Stdout, l.program.Stderr),
		kong.Exit(func(int) { panic(exitAsked{}) }),
		kong.PostBuild(l.prepare),
		kong.WithBeforeReset(func() error { l.source = ""; return nil }),
		kong.WithBeforeResolve(func() error { l.openFile(); return nil }),
		kong.WithBeforeApply(func() error { l.applied = true; return nil }),
		kong.Resolvers(kong.ResolverFunc(l.resolve)),
	})
}

// prepare takes the environment out of kong's hands, which would read the
// process's own, and adds the flag of the file to each secret.
func (l *loader) prepare(k *kong.Kong) error {
	var visit func(node *kong.Node) error
	visit = func(node *kong.Node) error {
		for _, flag := range slices.Clone(node.Flags) {
			if len(flag.Envs) == 0 {
				continue
			}
			if known, ok := settingsEnv[flag.Envs[0]]; !ok || len(flag.Envs) > 1 || known.flag != flag.Name {
				return fmt.Errorf("the flag --%s and the variable %v are not in the catalogue of pkg/config", flag.Name, flag.Envs)
			}
			group := sectionOf(settingsEnv[flag.Envs[0]].section)
			flag.Group = &group
			flag.Envs, flag.Tag.Envs = nil, nil
			if flag.Target.Type() == secretType {
				l.addFileFlag(node, flag)
			}
		}
		for _, child := range node.Children {
			if err := visit(child); err != nil {
				return err
			}
		}
		return nil
	}
	general := sectionOf(generalSection)
	k.Model.HelpFlag.Group = &general
	return visit(k.Model.Node)
}

// openFile reads the configuration file, once. kong calls it for each step of
// the path.
func (l *loader) openFile() {
	if l.file != nil {
		return
	}
	path, given := l.origins["config"]
	if !given {
		path.text = l.environ["LEDGERLINE_CONFIG"]
	}
	if path.text == "" {
		l.file = &settingsFile{}
		return
	}
	l.file = readFile(path.text)
}

// resolve gives kong the value of a flag that is not on the command line.
func (l *loader) resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	name, isSetting := l.envName(flag.Name)
	if !isSetting {
		return nil, nil
	}
	if value := l.environ[name]; value != "" {
		l.source = fromEnvironment
		return value, nil
	}
	if value, ok := l.file.values[flag.Name]; ok {
		l.source = fmt.Sprintf("%s:%d", l.file.path, value.line)
		return value.text, nil
	}
	return nil, nil
}

// envName is the variable of a flag, that of a secret's file included.
func (l *loader) envName(flag string) (name string, isSetting bool) {
	if s, ok := settingsFlag[flag]; ok {
		return s.name, true
	}
	if s, ok := settingsFlag[strings.TrimSuffix(flag, fileFlag)]; ok && s.secret {
		return s.name + fileSuffix, true
	}
	return "", false
}

// note remembers where a value came from.
func (l *loader) note(value *kong.Value, text string) {
	if l.source != "" {
		l.origins[value.Name] = origin{source: l.source, text: text}
	}
}

// fault records what is wrong with a value that was just read, or with one that
// is not there. Secrets never come here: any text is one.
func (l *loader) fault(value *kong.Value, text *string, problem, wayOut string) {
	f := Fault{Problem: problem, WayOut: wayOut, source: l.source, flag: value.Summary()}
	if value.Flag != nil {
		f.flag = "--" + value.Name
		f.Setting, _ = l.envName(value.Name)
	}
	if text != nil {
		f.value = quote(settingsFlag[value.Name].kind, *text)
	}
	l.faults = append(l.faults, f)
}

// maxShownValue bounds what a fault quotes of a value, in bytes.
const maxShownValue = 200

func quote(kind, text string) string {
	text = shown(kind, text)
	if len(text) > maxShownValue {
		text = text[:maxShownValue] + "…"
	}
	return fmt.Sprintf("%q", text)
}

// finish checks what was filled and returns it, or all faults.
func (l *loader) finish(p Program, usage Faults) (*Loaded, error) {
	faults := slices.Concat(usage, unknownNames(l.environ), l.file.faults, l.faults)
	faults = append(faults, l.applySecretFiles()...)

	groups := l.groups()
	for _, group := range groups {
		if pleo, ok := group.(*Pleo); ok {
			pleo.Credentials = l.file.credentials
		}
		if g, ok := group.(interface{ settle() }); ok {
			g.settle()
		}
		if g, ok := group.(interface{ settle(io.Writer) }); ok {
			g.settle(p.Stderr)
		}
	}
	faulty := map[string]bool{}
	for _, f := range faults {
		faulty[strings.TrimSuffix(f.Setting, fileSuffix)] = true
	}
	for _, group := range groups {
		checked, ok := group.(interface{ Validate() Faults })
		if !ok {
			continue
		}
		for _, f := range checked.Validate() {
			// A value that could not be read is not judged as well.
			if f = l.complete(f); !faulty[f.Setting] && !slices.Contains(faults, f) {
				faults = append(faults, f)
			}
		}
	}
	if err := faults.Err(p.Name); err != nil {
		return nil, err
	}
	return &Loaded{Command: l.ctx, groups: groups, loader: l}, nil
}

// complete adds flag, value and source to the fault of a Validate.
func (l *loader) complete(f Fault) Fault {
	s, ok := settingsEnv[f.Setting]
	if !ok {
		return f
	}
	f.flag = "--" + s.flag
	if from, given := l.origins[s.flag]; given {
		f.source = from.source
		if !s.secret {
			f.value = quote(s.kind, from.text)
		}
	}
	return f
}

// groups are pointers to every struct on the way to the chosen command, the
// inner ones before those around them.
func (l *loader) groups() []any {
	var found []any
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		for i := range v.NumField() {
			field := v.Type().Field(i)
			_, embedded := field.Tag.Lookup("embed")
			if field.IsExported() && field.Type.Kind() == reflect.Struct && (embedded || field.Anonymous) {
				walk(v.Field(i))
			}
		}
		found = append(found, v.Addr().Interface())
	}
	for _, step := range l.ctx.Path {
		if node := step.Node(); node != nil {
			walk(reflect.Indirect(node.Target))
		}
	}
	return found
}

// Group is the group of type T on the way to the chosen command, if there is
// one.
func Group[T any](l *Loaded) (group T, found bool) {
	for _, g := range l.groups {
		if g, ok := g.(*T); ok {
			return *g, true
		}
	}
	return group, false
}
