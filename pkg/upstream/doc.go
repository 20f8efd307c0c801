// Package upstream makes the Pleo clients that the settings ask for: one for each
// credential, and for each company the one that serves it.
//
// # What it promises
//
//   - A company that has a credential of its own is read and updated with that one
//     and no other; every other company with the default one. A company that has
//     neither is not read at all.
//   - All clients of one Clients keep to LEDGERLINE_PLEO_RATE together, and all
//     replicas of the installation to the budget of each credential (package
//     governor). With a rate of 0 there is neither.
//   - A bearer token and an API key are looked at for each request: a file that has
//     changed is used at once. OAuth pairs are renewed as package oauth has it.
//
// It leaves to the services which company a call is for, and to Pleo what a
// credential may see: a credential listed for a company that is another's, or an
// organisation's, is not found out here.
package upstream
