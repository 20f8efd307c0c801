// Command generate is scripts/nats-auth.
package main

import (
	"context"
	"os"

	"github.com/ledgerline/ledgerline/pkg/program"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/natsauth"
)

type commands struct {
	Create struct {
		Dir   string   `arg:"" help:"Folder for keys, credentials and certificates."`
		Hosts []string `name:"host" help:"Name or address of a server, for its certificate; several times. None: no certificate is made."`
		At    string   `placeholder:"FOLDER" help:"Where the servers have the folder, if not here."`
	} `cmd:"" help:"Make operator, accounts, a user for each program, and certificates."`
	Rotate struct {
		Dir     string `arg:""`
		Program string `arg:"" enum:"gateway,fetcher,consumer,operator,admin" help:"gateway, fetcher, consumer, operator or admin."`
	} `cmd:"" help:"Give a program new credentials and revoke the old ones."`
	Certificates struct {
		Dir   string   `arg:""`
		Hosts []string `name:"host" required:"" help:"Name or address of a server; several times."`
		At    string   `placeholder:"FOLDER" help:"Where the servers have the folder, if not here."`
	} `cmd:"" help:"Make the certificates anew."`

	Permissions string `required:"" placeholder:"FILE" help:"deploy/nats/permissions.conf."`
}

func main() {
	p := program.FromOS("nats-auth", "Makes the identities of an installation on NATS.")
	os.Exit(program.Main(p, &commands{}, func(_ context.Context, c *commands, rt *program.Runtime) error {
		switch rt.Command.Command() {
		case "rotate <dir> <program>":
			return natsauth.Rotate(c.Rotate.Dir, c.Rotate.Program)
		case "certificates <dir>":
			return natsauth.Certificates(c.Certificates.Dir, c.Certificates.Hosts, c.Certificates.At)
		default:
			if err := natsauth.Create(c.Create.Dir, c.Permissions); err != nil || len(c.Create.Hosts) == 0 {
				return err
			}
			return natsauth.Certificates(c.Create.Dir, c.Create.Hosts, c.Create.At)
		}
	}))
}
