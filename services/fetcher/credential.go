package fetcher

import (
	"context"
	"errors"
	"net/http"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/pleo"
)

// find reads the job for the first time: with the credential of the company that
// the job is known to have here, or that the event names, or with the default one.
// No other company's credential is tried: whose job it is, is not to be found out
// by looking with everybody's. Only where Pleo shows nothing to a company's
// credential the default one is tried as well: an event may name a company wrongly.
//
// The company of the job as read wins: from then on only its credential is used.
func (f *Fetcher) find(ctx context.Context, t *task) error {
	named := t.company
	client, err := f.config.Pleo.For(named)
	if err != nil {
		return t.park("%v", err)
	}
	t.pleo = client
	err = f.readJob(ctx, t)
	if hidden(err) && named != uuid.Nil {
		if fallback, noDefault := f.config.Pleo.For(uuid.Nil); noDefault == nil && !fallback.SameCredential(client) {
			t.pleo = fallback
			err = f.readJob(ctx, t)
		}
	}
	if err != nil {
		return err
	}
	own, err := f.config.Pleo.For(t.company)
	if err != nil {
		return t.park("%v", err)
	}
	seenBy := t.pleo
	t.pleo = own
	if own.SameCredential(seenBy) {
		return nil
	}
	company := t.company
	if err := f.readJob(ctx, t); err != nil {
		return err
	}
	if t.company != company {
		return t.park("Pleo says of the job that it is company %s's, and to that company's credential that it is %s's", company, t.company)
	}
	return nil
}

// hidden tells whether Pleo does not show the job to this credential.
func hidden(err error) bool {
	var api *pleo.APIError
	return errors.As(err, &api) && (api.Status == http.StatusNotFound || api.Status == http.StatusForbidden)
}
