package config

import (
	"net/url"
	"regexp"
	"strings"
)

// How a setting is shown, by its tag `kind`; other settings are shown as they
// are, and secrets never.
const (
	kindURL  = "url"
	kindSink = "sink"
)

// shown is text as logs and faults may show it.
func shown(kind, text string) string {
	switch kind {
	case kindURL:
		return RedactURL(text)
	case kindSink:
		return redactSink(text)
	default:
		return text
	}
}

// userInURL finds what stands between :// and @ in a command line.
var userInURL = regexp.MustCompile(`://[^\s/@]+@`)

// redactSink keeps a path or a command as it is, but for users in URLs.
func redactSink(spec string) string {
	if strings.HasPrefix(spec, "http:") || strings.HasPrefix(spec, "https:") {
		return redactOne(spec)
	}
	return userInURL.ReplaceAllString(spec, "://")
}

// RedactURL takes user, password and query out of a URL, or of several with
// commas between them, for logs and messages. What cannot be read as a URL loses
// everything up to its last @, and its query.
func RedactURL(text string) string {
	parts := strings.Split(text, ",")
	for i, part := range parts {
		parts[i] = redactOne(part)
	}
	return strings.Join(parts, ",")
}

func redactOne(text string) string {
	if u, err := url.Parse(text); err == nil && u.Scheme != "" && u.Host != "" {
		u.User = nil
		if u.RawQuery != "" {
			u.RawQuery = redacted
		}
		return u.String()
	}
	prefix, rest, found := strings.Cut(text, "://")
	if !found {
		prefix, rest = "", text
	} else {
		prefix += "://"
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest = rest[at+1:]
	}
	if base, _, found := strings.Cut(rest, "?"); found {
		rest = base + "?" + redacted
	}
	return prefix + rest
}
