//go:build !crashpoints

package fetcher

import "github.com/ledgerline/ledgerline/pkg/cas"

// maxStaged bounds the items of one batch of the staging: as many as the server
// takes, since each batch is one synced write.
const maxStaged = cas.MaxBatch
