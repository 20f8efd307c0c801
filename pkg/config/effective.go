package config

import (
	"reflect"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/logevent"
)

// Record writes the settings in effect as one event, `config loaded`: a field
// for each setting that has a value, named like its flag with underscores.
// Secrets are [redacted]; URLs lose user and query. An event of no enabled level
// costs nothing.
func (l *Loaded) Record(event *zerolog.Event) {
	for _, step := range l.Command.Path {
		for _, flag := range step.Flags {
			addSetting(event, flag)
		}
	}
	if pleo, found := Group[Pleo](l); found && len(pleo.Credentials) > 0 {
		var list []string
		for _, credential := range pleo.Credentials {
			list = append(list, credential.String())
		}
		event.Str("pleo_credentials", strings.Join(list, ", "))
	}
	event.Msg(logevent.ConfigLoaded)
}

func addSetting(event *zerolog.Event, flag *kong.Flag) {
	if flag.Name == "help" || flag.Name == "version" || flag.Target.IsZero() && flag.Target.Kind() == reflect.String {
		return
	}
	field := strings.ReplaceAll(flag.Name, "-", "_")
	switch value := flag.Target.Interface().(type) {
	case Secret:
		if value.IsSet() {
			event.Stringer(field, value)
		}
	case time.Duration:
		event.Str(field, value.String())
	case string:
		event.Str(field, shown(settingsFlag[flag.Name].kind, value))
	default:
		event.Interface(field, value)
	}
}
