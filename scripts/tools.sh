# Sourced by the other scripts: installs the tools of this repository, at fixed
# versions, into .tools/bin, and puts that first in PATH. They are kept out of the
# workspace's modules, whose build lists they would join.
TOOLS_DIR="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.tools"
export PATH="$TOOLS_DIR/bin:$PATH"

tool() { # name, package, version
  local stamp="$TOOLS_DIR/$1@$3"
  if [ ! -e "$stamp" ] || [ ! -x "$TOOLS_DIR/bin/$1" ]; then
    echo "installing $1 $3"
    # As scripts/check builds everything: the standard library is compiled once.
    (cd / && GOWORK=off CGO_ENABLED=0 GOFLAGS=-trimpath GOBIN="$TOOLS_DIR/bin" go install "$2@$3")
    rm -f "$TOOLS_DIR/$1@"*
    touch "$stamp"
  fi
}

mkdir -p "$TOOLS_DIR/bin"
# TOOLS names those that a script needs; without it, those of scripts/check.
for name in ${TOOLS:-buf protoc-gen-go golangci-lint}; do
  case $name in
    buf) tool buf github.com/bufbuild/buf/cmd/buf v1.75.0 ;;
    protoc-gen-go) tool protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go v1.36.12 ;;
    golangci-lint) tool golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint v2.15.0 ;;
    nats) tool nats github.com/nats-io/natscli/nats v0.5.1 ;; # NATS's own command line
    *) echo "scripts/tools.sh knows no tool $name" >&2; exit 1 ;;
  esac
done
