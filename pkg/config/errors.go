package config

import "errors"

var (
	// ErrInvalid is returned when the command line, the environment or the
	// configuration file cannot be used as given. The error that wraps it is an
	// *Error and names every fault.
	ErrInvalid = errors.New("wrong usage or configuration")

	// ErrHandled is returned when --help or --version was asked for and was
	// answered: there is nothing left to do, and the exit code is 0.
	ErrHandled = errors.New("help or version was asked for")

	// ErrSecretFile is returned by Secret.Value when the secret's file cannot be
	// read, is empty, or is larger than MaxSecretBytes.
	ErrSecretFile = errors.New("secret file cannot be used")

	// ErrSigningKey is returned by Gateway.SigningKeys when a webhook secret is not
	// whsec_ and base64.
	ErrSigningKey = errors.New("webhook secret cannot be used")
)
