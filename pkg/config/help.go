package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// versionFlag answers --version.
type versionFlag bool

// BeforeReset is kong's hook for a flag that was given.
func (versionFlag) BeforeReset(k *kong.Kong, vars kong.Vars) error {
	fmt.Fprintf(k.Stdout, "%s %s\n", k.Model.Name, vars["version"])
	k.Exit(0)
	return nil
}

func helpOptions(p Program) []kong.Option {
	groups := make([]kong.Group, 0, len(catalogue))
	for _, sec := range catalogue {
		if group := (kong.Group{Key: sec.key, Title: sec.title}); !slices.Contains(groups, group) {
			groups = append(groups, group)
		}
	}
	return []kong.Option{
		kong.Name(p.Name),
		kong.Description(p.Description),
		kong.Vars{"version": p.Version},
		kong.ExplicitGroups(groups),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: helpWidth}),
		kong.ValueFormatter(helpText),
	}
}

// helpWidth keeps lines readable on a wide terminal.
const helpWidth = 120

func sectionOf(key string) kong.Group {
	for _, sec := range catalogue {
		if sec.key == key {
			return kong.Group{Key: sec.key, Title: sec.title}
		}
	}
	return kong.Group{Key: key, Title: key}
}

// helpText is a flag's line: what it does, and the variables of the same name.
func helpText(value *kong.Value) string {
	s, ok := settingsFlag[value.Name]
	if value.Flag == nil || !ok {
		return value.Help
	}
	names := "$" + s.name
	if s.secret {
		names += ", or a file with it: $" + s.name + fileSuffix
	}
	return strings.TrimSuffix(value.Help, ".") + " (" + names + ")."
}
