# Sourced by the other scripts: installs the tools of this repository, at fixed
# versions, into .tools/bin, and puts that first in PATH. They are kept out of the
# workspace's modules, whose build lists they would join.
TOOLS_DIR="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.tools"
export PATH="$TOOLS_DIR/bin:$PATH"

tool() { # name, package, version
  local stamp="$TOOLS_DIR/$1@$3"
  if [ ! -e "$stamp" ] || [ ! -x "$TOOLS_DIR/bin/$1" ]; then
    echo "installing $1 $3"
    (cd / && GOWORK=off GOFLAGS= GOBIN="$TOOLS_DIR/bin" go install "$2@$3")
    rm -f "$TOOLS_DIR/$1@"*
    touch "$stamp"
  fi
}

mkdir -p "$TOOLS_DIR/bin"
tool buf github.com/bufbuild/buf/cmd/buf v1.75.0
tool protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go v1.36.12
tool golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint v2.15.0
