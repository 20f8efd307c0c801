package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

var durationType = reflect.TypeFor[time.Duration]()

// decoder stands in for kong's own mappers. They stop at the first value that
// cannot be read; this one records the fault and lets the parse go on, so that a
// person is told of all of them at once.
type decoder struct {
	load   *loader
	isBool bool
}

// IsBool lets a flag of this kind stand without a value.
func (d decoder) IsBool() bool { return d.isBool }

// Decode implements kong.Mapper. It always succeeds.
func (d decoder) Decode(ctx *kong.DecodeContext, target reflect.Value) error {
	next := ctx.Scan.Peek()
	var text string
	switch {
	case d.isBool && next.Type != kong.FlagValueToken:
		text = "true" // the bare flag
	case !d.isBool && !next.IsValue():
		d.load.fault(ctx.Value, nil, "has no value", "give one, as in "+exampleOf(ctx.Value))
		d.fallBack(ctx.Value, target)
		return nil
	default:
		text = fmt.Sprint(ctx.Scan.Pop().Value)
	}
	d.load.note(ctx.Value, text)
	problem, wayOut := decode(text, ctx.Value.Enum, target)
	if problem == "" {
		return nil
	}
	d.load.fault(ctx.Value, &text, problem, wayOut)
	d.fallBack(ctx.Value, target)
	return nil
}

// fallBack leaves a usable value, so that the checks that follow do not name
// this setting a second time.
func (d decoder) fallBack(value *kong.Value, target reflect.Value) {
	if value.HasDefault {
		decode(value.Default, value.Enum, target)
	}
}

func exampleOf(value *kong.Value) string {
	if value.Flag == nil {
		return value.Summary()
	}
	return "--" + value.Name + "=" + value.Flag.FormatPlaceHolder()
}

// decode reads text into target. It returns what is wrong with the text and
// what to give instead, or nothing.
func decode(text, enum string, target reflect.Value) (problem, wayOut string) {
	if enum != "" {
		words := strings.Split(enum, ",")
		for _, word := range words {
			if word == text {
				target.SetString(text)
				return "", ""
			}
		}
		return "is none of the values it may have", "give " + orList(words)
	}
	switch {
	case target.Type() == secretType:
		target.Set(reflect.ValueOf(NewSecret(text)))
	case target.Type() == durationType:
		duration, err := time.ParseDuration(text)
		if err != nil {
			return "is not a duration", "give a number with a unit, such as 500ms, 30s, 2m or 24h"
		}
		target.SetInt(int64(duration))
	case target.Kind() == reflect.String:
		target.SetString(text)
	case target.Kind() == reflect.Bool:
		truth, ok := truths[strings.ToLower(text)]
		if !ok {
			return "is neither true nor false", "give true or false"
		}
		target.SetBool(truth)
	case target.CanInt():
		number, err := strconv.ParseInt(text, 10, target.Type().Bits())
		if err != nil {
			return "is not a whole number", "give a whole number"
		}
		target.SetInt(number)
	case target.CanUint():
		number, err := strconv.ParseUint(text, 10, target.Type().Bits())
		if err != nil {
			return "is not a whole number from 0", "give a whole number from 0"
		}
		target.SetUint(number)
	case target.CanFloat():
		number, err := strconv.ParseFloat(text, target.Type().Bits())
		if err != nil {
			return "is not a number", "give a number such as 10 or 0.5"
		}
		target.SetFloat(number)
	default:
		// Only kinds that decoders registers come here.
		panic(fmt.Sprintf("config: no decoder for %s", target.Type()))
	}
	return "", ""
}

var truths = map[string]bool{
	"true": true, "yes": true, "on": true, "1": true,
	"false": false, "no": false, "off": false, "0": false,
}

// decoders replaces kong's mappers for every kind that decode reads. Durations
// come by their kind as well.
func decoders(l *loader) []kong.Option {
	plain := decoder{load: l}
	options := []kong.Option{
		kong.TypeMapper(secretType, plain),
		kong.TypeMapper(durationType, plain),
		kong.KindMapper(reflect.Bool, decoder{load: l, isBool: true}),
	}
	for _, kind := range []reflect.Kind{
		reflect.String, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64,
	} {
		options = append(options, kong.KindMapper(kind, plain))
	}
	return options
}
