// Package config reads the settings of every program: flags before environment
// before a YAML file before defaults, all by one name (LEDGERLINE_PLEO_URL,
// --pleo-url, pleo-url).
//
// It promises: every fault is told at once, each with the variable, its flag, the
// value unless it is a secret, where that came from, and the way out; a
// LEDGERLINE_ name that no program knows is a fault, while those of another
// program are none, so that one environment serves all; a secret never shows in a
// log, a fault or a printed struct, and one that comes from a file is read again
// when the file changes.
//
// It leaves to the programs which groups they have (each is a struct here:
// Service, Pleo, Sink, …) and what those must hold together, by a Validate of
// their own; and to the sink package what a sink's specification means. It does
// not keep a secret off the process list when it is given as a flag, nor a
// password out of the log that somebody writes into a sink's command.
//
// All names live in the structs of this package, in their tags; the list of known
// names, --help and the messages are made from them.
//
// # Why kong
//
// kong makes flags, groups and subcommands from one struct, so that each setting
// is written once. What it would do itself is taken over in three places: values
// are decoded here, since its own decoding stops at the first fault; the
// environment is the one passed in, since it reads the process's; and the YAML
// file is read from its syntax tree, so that faults name the line.
package config
