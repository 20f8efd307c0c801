// Package logtest lets a test wait for a log event instead of for time to pass.
package logtest
