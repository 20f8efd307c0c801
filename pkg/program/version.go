package program

import (
	"runtime"
	"runtime/debug"
)

// version is set when a release is linked:
//
//	-ldflags "-X github.com/ledgerline/ledgerline/pkg/program.version=v1.2.3"
var version string

// shortRevision is how many characters of a commit are shown.
const shortRevision = 12

// Version is the release, or the commit this was built from, and Go's version.
func Version() string {
	info, _ := debug.ReadBuildInfo()
	return describe(version, info)
}

func describe(release string, info *debug.BuildInfo) string {
	if release == "" {
		release = "development"
		if revision := revisionOf(info); revision != "" {
			release = "development " + revision
		}
	}
	return release + " (" + runtime.Version() + ")"
}

func revisionOf(info *debug.BuildInfo) string {
	if info == nil {
		return ""
	}
	var revision, modified string
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value[:min(len(s.Value), shortRevision)]
		case "vcs.modified":
			if s.Value == "true" {
				modified = "+changes"
			}
		}
	}
	if revision == "" {
		return ""
	}
	return revision + modified
}
