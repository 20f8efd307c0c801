package config

import (
	"reflect"

	"github.com/alecthomas/kong"
)

// secretFlags are the two flags of one secret: its value and its file.
type secretFlags struct {
	secret *kong.Flag
	file   *kong.Flag
}

// addFileFlag gives a secret the flag that names its file. --help tells of it in
// the secret's own line.
func (l *loader) addFileFlag(node *kong.Node, secret *kong.Flag) {
	file := &kong.Flag{Value: &kong.Value{
		Name:         secret.Name + fileFlag,
		Tag:          &kong.Tag{},
		Mapper:       decoder{load: l},
		Target:       reflect.New(reflect.TypeFor[string]()).Elem(),
		DefaultValue: reflect.ValueOf(""),
	}, Hidden: true, PlaceHolder: "FILE", Group: secret.Group}
	file.Flag = file
	node.Flags = append(node.Flags, file)
	l.secrets = append(l.secrets, &secretFlags{secret: secret, file: file})
}

// applySecretFiles turns the files that were named into secrets and reads each
// once, so that a file that cannot be used is found at the start.
func (l *loader) applySecretFiles() (faults Faults) {
	for _, pair := range l.secrets {
		path := pair.file.Target.String()
		if path == "" {
			continue
		}
		name := settingsFlag[pair.secret.Name].name
		flag := "--" + pair.file.Name
		if pair.secret.Target.Interface().(Secret).IsSet() {
			faults = append(faults, Fault{
				Setting: name, flag: "--" + pair.secret.Name,
				Problem: "is given, and " + name + fileSuffix + " as well", WayOut: "give one of the two",
			})
			continue
		}
		secret := SecretFromFile(path)
		if _, err := secret.Value(); err != nil {
			faults = append(faults, Fault{
				Setting: name + fileSuffix, flag: flag, source: l.origins[pair.file.Name].source,
				Problem: err.Error(), WayOut: "give a readable file that holds the secret and nothing else",
			})
		}
		// Set even if it cannot be read now: the secret was given, and is not
		// missing besides.
		pair.secret.Target.Set(reflect.ValueOf(secret))
	}
	return faults
}
