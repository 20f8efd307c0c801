package natsauth

import (
	"fmt"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/conf"
)

// Programs are the users with permissions of their own, by the name that stands
// before _MAY in the permissions file.
var Programs = []string{"gateway", "fetcher", "consumer", "operator"}

// permissions reads what each program may do.
func permissions(file string, program string) (jwt.Permissions, error) {
	all, err := conf.ParseFile(file)
	if err != nil {
		return jwt.Permissions{}, fmt.Errorf("read the permissions: %w", err)
	}
	name := map[string]string{"gateway": "GATEWAY_MAY", "fetcher": "FETCHER_MAY", "consumer": "CONSUMER_MAY", "operator": "OPERATOR_MAY"}[program]
	of, ok := all[name].(map[string]any)
	if !ok {
		return jwt.Permissions{}, fmt.Errorf("%s says nothing of %s", file, name)
	}
	var p jwt.Permissions
	for side, into := range map[string]*jwt.Permission{"publish": &p.Pub, "subscribe": &p.Sub} {
		subjects, _ := of[side].(map[string]any)
		list, _ := subjects["allow"].([]any)
		if len(list) == 0 || len(subjects) != 1 {
			return jwt.Permissions{}, fmt.Errorf("%s: %s of %s is no list of what is allowed", file, side, name)
		}
		for _, subject := range list {
			text, ok := subject.(string)
			if !ok {
				return jwt.Permissions{}, fmt.Errorf("%s: %v of %s is no subject", file, subject, name)
			}
			into.Allow.Add(text)
		}
	}
	if answers, ok := of["allow_responses"].(map[string]any); ok {
		most, _ := answers["max"].(int64)
		text, _ := answers["expires"].(string)
		expires, err := time.ParseDuration(text)
		if err != nil || most <= 0 {
			return jwt.Permissions{}, fmt.Errorf("%s: allow_responses of %s lacks max or expires: %w", file, name, err)
		}
		p.Resp = &jwt.ResponsePermission{MaxMsgs: int(most), Expires: expires}
	}
	return p, nil
}
