// Package program is what every main has in common: it reads the settings, makes
// the logger, runs one function until it ends or a signal comes, and makes an
// exit code of the result.
//
//	func main() {
//		p := program.FromOS("fetcher", "Drains and seals Pleo export jobs.")
//		os.Exit(program.Main(p, new(fetcher.Config), run))
//	}
//
// It promises the exit codes of every program: 0 done; 1 failed, or shut down by
// force; 2 wrong usage or configuration, with every fault on stderr. SIGTERM and
// SIGINT end the function's context; a second one, or the shutdown timeout,
// forces the end.
//
// It leaves to the function what "graceful" means: finish what is in hand when
// the context ends, and return.
package program
