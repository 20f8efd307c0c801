package tracing

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"

	"github.com/ledgerline/ledgerline/pkg/config"
)

const (
	// defaultEndpoint and defaultTimeout are OpenTelemetry's own.
	defaultEndpoint = "http://localhost:4318"
	defaultTimeout  = 10 * time.Second
	tracesPath      = "v1/traces"
	// maxTimeout bounds OTEL_EXPORTER_OTLP_TIMEOUT: a batch that cannot be sent
	// stands in the way of the next.
	maxTimeout = time.Minute
	// sendMin and sendMax bound the waits between the tries of one batch; the
	// target's time-out ends them.
	sendMin = 250 * time.Millisecond
	sendMax = 5 * time.Second
)

// target is where traces go, by the standard variables of the OTLP exporter.
type target struct {
	url     *url.URL
	headers map[string]string
	timeout time.Duration
	gzip    bool
	tls     *tls.Config // nil: the system's
}

// shown is the address without what may be secret in it.
func (t target) shown() string { return t.url.Redacted() }

// options are the exporter's. What was read is set, so that both mean the same.
func (t target) options() []otlptracehttp.Option {
	compression := otlptracehttp.NoCompression
	if t.gzip {
		compression = otlptracehttp.GzipCompression
	}
	options := []otlptracehttp.Option{
		otlptracehttp.WithEndpointURL(t.url.String()),
		otlptracehttp.WithHeaders(t.headers),
		otlptracehttp.WithTimeout(t.timeout),
		otlptracehttp.WithCompression(compression),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{
			Enabled: true, InitialInterval: sendMin, MaxInterval: sendMax, MaxElapsedTime: t.timeout,
		}),
	}
	if t.tls != nil {
		options = append(options, otlptracehttp.WithTLSClientConfig(t.tls))
	}
	return options
}

// readTarget reads the variables. on is false where they ask for no traces. The
// variables for traces alone go before the ones for all signals.
func readTarget(getenv func(string) string) (t target, on bool, err error) {
	var faults config.Faults
	value := func(name string) (string, string) {
		for _, full := range []string{"OTEL_EXPORTER_OTLP_TRACES_" + name, "OTEL_EXPORTER_OTLP_" + name} {
			if v := strings.TrimSpace(getenv(full)); v != "" {
				return v, full
			}
		}
		return "", "OTEL_EXPORTER_OTLP_" + name
	}
	endpoint, endpointName := value("ENDPOINT")
	if strings.EqualFold(strings.TrimSpace(getenv("OTEL_SDK_DISABLED")), "true") {
		return t, false, nil
	}
	switch exporter := strings.TrimSpace(getenv("OTEL_TRACES_EXPORTER")); exporter {
	case "none":
		return t, false, nil
	case "otlp":
	case "":
		if endpoint == "" {
			return t, false, nil
		}
	default:
		faults.Add("OTEL_TRACES_EXPORTER", fmt.Sprintf("is %q", exporter), "give otlp or none")
	}
	if protocol, name := value("PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		faults.Add(name, fmt.Sprintf("is %q", protocol), "give http/protobuf: nothing else is spoken here")
	}
	t.url, err = endpointURL(endpoint, endpointName)
	if err != nil {
		faults.Add(endpointName, err.Error(), "give a URL such as "+defaultEndpoint)
	}
	t.timeout = defaultTimeout
	if text, name := value("TIMEOUT"); text != "" {
		ms, err := strconv.Atoi(text)
		t.timeout = time.Duration(ms) * time.Millisecond
		if err != nil || t.timeout <= 0 || t.timeout > maxTimeout {
			faults.Add(name, fmt.Sprintf("is %q", text), "give milliseconds, 1 to "+strconv.Itoa(int(maxTimeout/time.Millisecond)))
		}
	}
	switch compression, name := value("COMPRESSION"); compression {
	case "", "none":
	case "gzip":
		t.gzip = true
	default:
		faults.Add(name, fmt.Sprintf("is %q", compression), "give gzip or none")
	}
	text, name := value("HEADERS")
	if t.headers, err = headersOf(text); err != nil {
		// Its value may be a credential, and is not told.
		faults.Add(name, err.Error(), "give name=value, several separated by commas")
	}
	t.tls = readTLS(value, &faults)
	if err := faults.Err(""); err != nil {
		return target{}, false, err
	}
	return t, true, nil
}

func endpointURL(endpoint, name string) (*url.URL, error) {
	if endpoint == "" {
		endpoint = defaultEndpoint
	}
	parsed, err := url.Parse(endpoint)
	if err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https" {
		return nil, fmt.Errorf("is no http or https URL")
	}
	if !strings.Contains(name, "_TRACES_") {
		parsed = parsed.JoinPath(tracesPath)
	}
	return parsed, nil
}

func headersOf(text string) (map[string]string, error) {
	headers := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		decoded, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); !ok || err != nil || name == "" || !printable(name) || !printable(decoded) {
			return nil, fmt.Errorf("has a part that is no name=value")
		}
		headers[name] = decoded
	}
	return headers, nil
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func readTLS(value func(string) (string, string), faults *config.Faults) *tls.Config {
	ca, caName := value("CERTIFICATE")
	certificate, certificateName := value("CLIENT_CERTIFICATE")
	key, keyName := value("CLIENT_KEY")
	if ca == "" && certificate == "" && key == "" {
		return nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		c.RootCAs = x509.NewCertPool()
		if err != nil || !c.RootCAs.AppendCertsFromPEM(pem) {
			faults.Add(caName, "is no file with certificates", "give the path of a PEM file")
		}
	}
	switch {
	case certificate != "" && key != "":
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			faults.Add(certificateName, "cannot be read together with "+keyName, "give the paths of two PEM files that belong together")
		}
		c.Certificates = []tls.Certificate{pair}
	case certificate != "" || key != "":
		faults.Add(certificateName, "and "+keyName+" come together", "set both or none")
	}
	return c
}
