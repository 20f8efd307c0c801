package config

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
)

const (
	ownPrefix  = "LEDGERLINE_"
	fileSuffix = "_FILE"
	fileFlag   = "-file"
)

// general are the flags that every program and command has.
type general struct {
	Config  string      `name:"config" env:"LEDGERLINE_CONFIG" placeholder:"FILE" help:"YAML file with settings, by the names of their flags."`
	Version versionFlag `name:"version" group:"general" help:"Show the version and end."`
}

const generalSection = "general"

// section is a group of settings under one heading of --help.
type section struct {
	key, title string
	group      any
}

// catalogue is every group that any program of ours has. An environment may be
// shared by all programs, so what is written in one of these structs is known
// everywhere, and nothing else is. Embedded stands after NATS, whose user and
// password it shares.
var catalogue = []section{
	{generalSection, "General:", general{}},
	{"nats", "NATS:", NATS{}},
	{"embedded", "Embedded NATS server:", Embedded{}},
	{"streams", "Streams:", Streams{}},
	{"pleo", "Pleo:", Pleo{}},
	{"gateway", "Gateway:", Gateway{}},
	{"fetcher", "Fetcher:", Fetcher{}},
	{"consumer", "Consumer:", Consumer{}},
	{"sink", "Sink:", Sink{}},
	{"http", "HTTP:", HTTP{}},
	{"status", "Status page:", Status{}},
	{"status", "Status page:", StatusPage{}},
	{"log", "Logs:", Log{}},
	{"shutdown", "Shutdown:", Shutdown{}},
}

// setting is one line of the catalogue.
type setting struct {
	name    string // of the environment variable
	flag    string // without dashes
	section string // key of the first group that has it
	kind    string
	secret  bool
}

var (
	secretType = reflect.TypeFor[Secret]()

	settings     = readCatalogue()
	settingsEnv  = settingsBy(func(s setting) string { return s.name })
	settingsFlag = settingsBy(func(s setting) string { return s.flag })
)

func readCatalogue() []setting {
	var all []setting
	seen := map[string]bool{}
	for _, sec := range catalogue {
		group := reflect.TypeOf(sec.group)
		for i := range group.NumField() {
			tag := group.Field(i).Tag
			name := tag.Get("env")
			if name == "" || seen[name] {
				continue
			}
			seen[name] = true
			all = append(all, setting{
				name: name, flag: tag.Get("name"), section: sec.key, kind: tag.Get("kind"),
				secret: group.Field(i).Type == secretType,
			})
		}
	}
	return all
}

func settingsBy(key func(setting) string) map[string]setting {
	by := make(map[string]setting, len(settings))
	for _, s := range settings {
		by[key(s)] = s
	}
	return by
}

// Names are the environment variables that any program knows, those of secret
// files included, sorted.
func Names() []string {
	var names []string
	for _, s := range settings {
		names = append(names, s.name)
		if s.secret {
			names = append(names, s.name+fileSuffix)
		}
	}
	slices.Sort(names)
	return names
}

// serviceLink matches the variables that Kubernetes puts into every container
// of a namespace for each of its services: a service named "ledgerline-gateway"
// makes LEDGERLINE_GATEWAY_SERVICE_HOST and its like, which nobody has set.
var serviceLink = regexp.MustCompile(`_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_[A-Z]+)?$`)

// isServiceLink tells whether a variable is one of them. LEDGERLINE_PORT is one by
// its value alone, tcp://10.0.0.1:80: somebody who wants to say where to listen may
// well write LEDGERLINE_PORT=8080, and is to be told.
func isServiceLink(name, value string) bool {
	return serviceLink.MatchString(name) || strings.HasSuffix(name, "_PORT") && strings.Contains(value, "://")
}

// unknownNames returns a fault for each LEDGERLINE_ variable that no program
// knows. Their values are not shown: one may be a secret under a wrong name.
func unknownNames(environ map[string]string) (faults Faults) {
	known := Names()
	var unknown []string
	for name, value := range environ {
		if strings.HasPrefix(name, ownPrefix) && !slices.Contains(known, name) && !isServiceLink(name, value) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	for _, name := range unknown {
		wayOut := "remove it"
		if near := nearest(name, known); near != "" {
			wayOut = "did you mean " + near + "?"
		}
		faults.Add(name, "is no setting of Ledgerline", wayOut)
	}
	return faults
}
