package fetcher

import (
	"context"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	"github.com/ledgerline/ledgerline/pkg/endpoint"
	"github.com/ledgerline/ledgerline/pkg/steer"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// offer answers what consumers ask of the fetchers, until ctx ends.
func (f *Fetcher) offer(ctx context.Context) {
	pool := endpoint.NewPool(ctx, f.config.Conn, f.logger)
	defer pool.Wait()
	endpoint.Offer(ctx, endpoint.Service{
		Conn: f.config.Conn, Name: subject.ServiceFetcher, Description: "Drains and seals export jobs", Logger: f.logger,
		Metadata: map[string]string{"order": string(f.config.Order)},
		Endpoints: []endpoint.Endpoint{
			{Name: "again", Subject: subject.FetcherAgain, Handle: endpoint.Answer(pool, settleTimeout, f.again)},
		},
	})
}

// again publishes the event of a further run and answers once it is stored. The
// same event twice does the run's work once.
func (f *Fetcher) again(ctx context.Context, ask endpoint.Again) (struct{}, error) {
	var done struct{}
	job, err := subject.ParseID(ask.JobID)
	if err != nil {
		return done, endpoint.Refuse("400", err.Error())
	}
	company, err := subject.ParseID(ask.CompanyID)
	if ask.CompanyID != "" && err != nil {
		return done, endpoint.Refuse("400", err.Error())
	}
	named := ""
	if company != uuid.Nil {
		named = company.String()
	}
	crashpoint.Before(crashpoint.FetcherFurther)
	_, err = steer.Publish(ctx, f.js, job, named)
	crashpoint.After(crashpoint.FetcherFurther)
	return done, err
}
