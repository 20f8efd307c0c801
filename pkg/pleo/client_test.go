package pleo

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestNewReportsAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := New(Config{BaseURL: "ftp://pleo.example", Rate: -1, Timeout: -time.Second, PageSize: MaxPageSize + 1})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, part := range []string{"BaseURL", "Auth", "Rate", "Timeout", "PageSize"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s is not in %q", part, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"credentials in the URL":            {BaseURL: "https://user:" + token + "@pleo.example"},
		"credentials in a URL that is none": {BaseURL: "https://user:" + token + ":x/@pleo.example"},
		"no host":                           {BaseURL: "https:///v3"},
		"no scheme":                         {BaseURL: "pleo.example"},
		"query":                             {BaseURL: "https://pleo.example/?a=" + token},
		"rate is no number":                 {Rate: math.NaN()},
		"endless rate":                      {Rate: math.Inf(1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg.Auth = BearerToken(StaticSecret(token))
			_, err := New(cfg)
			if err == nil || strings.Contains(err.Error(), token) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestNewDefaults(t *testing.T) {
	t.Parallel()
	c, err := New(Config{Auth: APIKey(StaticSecret(token))})
	if err != nil {
		t.Fatal(err)
	}
	if c.base.String() != DefaultBaseURL || c.timeout != DefaultTimeout || c.pageSize != DefaultPageSize || c.userAgent != DefaultUserAgent || c.limiter != nil || c.maxPages != MaxPages || c.pageBound != MaxPageBytes {
		t.Errorf("client %+v", c)
	}
	c.CloseIdleConnections()
}
