// Package fetcher turns a job-started event into a sealed job: it reads the job
// and all its pages, stores each open item in order on the job's subject, and
// seals them with a manifest by compare-and-set.
//
// It promises: nothing is sealed before everything was read and stored; the same
// event any number of times, at any number of replicas, seals a job once; an
// event that cannot be used is parked with a reason and holds up nobody; an
// event is acked only when its job is sealed or parked. It stores no payload and
// holds no more of a job than its entries' ids and dates.
//
// It leaves the processing to the consumer, and detecting and starting jobs to
// the gateway, unless Config.StartJobs is set.
package fetcher
