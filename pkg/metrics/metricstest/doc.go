// Package metricstest reads a /metrics in tests.
package metricstest
