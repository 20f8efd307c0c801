package crash

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

const (
	module     = "github.com/ledgerline/ledgerline/"
	crashpoint = module + "pkg/crashpoint"
	streams    = "github.com/nats-io/nats.go/jetstream"
)

// harmless are, by package, the functions and methods that change nothing outside
// of the process. Whatever else a service calls in one of these packages is an
// outside effect, also what is added to them later.
var harmless = map[string][]string{
	"github.com/nats-io/nats.go": {"Headers.Get", "Header.Get", "Header.Set", "NewMsg", "IsClosed", "IsConnected", "Get", "Set"},
	streams: {
		"New", "WithDefaultTimeout", "WithPurgeSubject", "WithPurgeSequence", "WithSubjectFilter", "WithGetMsgSubject", "FetchMaxWait",
		"Subject", "Data", "Headers", "Reply", "Metadata", "Error", "Messages", "CachedInfo", "Info", "Stream", "Consumer", "KeyValue",
		"GetMsg", "GetLastMsgForSubject", "Options", "Conn", "OrderedConsumer", "Name", "ConsumerNames",
	},
	module + "pkg/cas":      {"IsConflict"},
	module + "pkg/ledger":   {"Open", "Last", "LastOfJob", "Final", "Past", "Settled", "TurnFree", "HasTurn", "Verify", "Decode", "Error", "RunOrZero", "EpochOrZero", "Each", "Born"},
	module + "pkg/jobstate": {"Open", "Get", "Latest", "List", "Watch", "Starting", "PhaseName"},
	module + "pkg/parked":   {"Open", "HasJob"},
	// What a pull hands out is nobody else's for a lease, and nothing more: the
	// first effect that follows has the point before it.
	module + "pkg/pull": {"Next"},
	module + "pkg/pleo": {
		"Job", "AwaitJob", "Jobs", "IsPageFault", "HasType", "Final", "Open", "Known", "Deadline", "Error", "CloseIdleConnections", "New", "SameCredential", "ReadsExportItems",
	},
	module + "pkg/endpoint": {"Offer", "NewPool", "Wait", "Answer", "Refuse", "Error", "Decode", "Replicas"},
	module + "pkg/steer":    {"Open", "Error", "Is"},
	module + "pkg/sink":     {"Open", "Ready", "Close", "Validate", "String"},
}

// own are interfaces of a service behind which one of these packages stands.
var own = map[string][]string{
	module + "services/consumer": {"Claim"},
}

// effect tells whether a call of f is an outside effect.
func effect(f *types.Func) bool {
	if f == nil || f.Pkg() == nil {
		return false
	}
	if names, isOwn := own[f.Pkg().Path()]; isOwn && slices.Contains(names, f.Name()) {
		return types.IsInterface(f.Signature().Recv().Type())
	}
	names, outward := harmless[f.Pkg().Path()]
	return outward && !slices.Contains(names, f.Name()) && f.Exported()
}

// TestEveryEffectStandsBetweenPoints reads the services' source: a statement with
// an outside effect has crashpoint.Before(step) right above it and After of the
// same step right below, and each step stands at one place.
func TestEveryEffectStandsBetweenPoints(t *testing.T) {
	t.Parallel()
	loaded, err := packages.Load(&packages.Config{
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo | packages.NeedImports,
	}, module+"services/gateway", module+"services/fetcher", module+"services/consumer")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]int{}
	effects := 0
	for _, p := range loaded {
		if len(p.Errors) > 0 || len(p.Syntax) == 0 {
			t.Fatalf("%s: %d files, %v", p.PkgPath, len(p.Syntax), p.Errors)
		}
		s := source{t: t, p: p, used: used}
		for _, file := range p.Syntax {
			ast.Inspect(file, s.visit)
		}
		effects += s.effects
	}
	if effects < 50 {
		t.Errorf("only %d effects were found: the test does not see what it must", effects)
	}
	for step := range names(t) {
		if n := used["Before "+step]; n > 1 || (n == 0 && used["After "+step] == 0) {
			t.Errorf("step %s stands before %d effects; each stands at one place", step, n)
		}
		if n := used["After "+step]; n != 1 {
			t.Errorf("step %s stands after %d effects; each stands at one place", step, n)
		}
	}
}

// source is one package under the test.
type source struct {
	t       *testing.T
	p       *packages.Package
	used    map[string]int
	effects int
}

func (s *source) visit(n ast.Node) bool {
	var list []ast.Stmt
	switch n := n.(type) {
	case *ast.BlockStmt:
		list = n.List
	case *ast.CaseClause:
		list = n.Body
	case *ast.CommClause:
		list = n.Body
	}
	for i, stmt := range list {
		if side, step := s.point(stmt); side != "" {
			s.used[side+" "+step]++
		}
		for _, call := range s.calls(stmt) {
			s.effects++
			var before, after string
			if i > 0 {
				if side, step := s.point(list[i-1]); side == "Before" {
					before = step
				}
			}
			if i+1 < len(list) {
				if side, step := s.point(list[i+1]); side == "After" {
					after = step
				}
			}
			if before == "" || before != after {
				s.t.Errorf("%s: %s is an outside effect and stands between Before(%q) and After(%q): put it alone between the two of a step of its own",
					s.p.Fset.Position(call.Pos()), types.ExprString(call.Fun), before, after)
			}
		}
	}
	return true
}

// calls are the effects of a statement, but for those of the statements inside it,
// which are looked at on their own.
func (s *source) calls(stmt ast.Stmt) (found []*ast.CallExpr) {
	ast.Inspect(stmt, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BlockStmt, *ast.CaseClause, *ast.CommClause:
			return false
		case *ast.CallExpr:
			if f, ok := typeOf(s.p, n); ok && effect(f) {
				found = append(found, n)
			}
		}
		return true
	})
	return found
}

func typeOf(p *packages.Package, call *ast.CallExpr) (*types.Func, bool) {
	name, ok := call.Fun.(*ast.Ident)
	if selector, isSelector := call.Fun.(*ast.SelectorExpr); isSelector {
		name, ok = selector.Sel, true
	}
	if !ok {
		return nil, false
	}
	f, ok := p.TypesInfo.Uses[name].(*types.Func)
	return f, ok
}

// point is the side and the step of a statement that is a crash point.
func (s *source) point(stmt ast.Stmt) (side, step string) {
	expr, ok := stmt.(*ast.ExprStmt)
	if !ok {
		return "", ""
	}
	call, ok := expr.X.(*ast.CallExpr)
	if !ok {
		return "", ""
	}
	f, ok := typeOf(s.p, call)
	if !ok || f.Pkg() == nil || f.Pkg().Path() != crashpoint {
		return "", ""
	}
	constant, ok := s.p.TypesInfo.Types[call.Args[0]]
	if !ok || constant.Value == nil {
		s.t.Errorf("%s: a crash point without a name", s.p.Fset.Position(call.Pos()))
		return "", ""
	}
	text, err := strconv.Unquote(constant.Value.ExactString())
	if err != nil {
		s.t.Fatal(err)
	}
	return f.Name(), text
}

// names are the steps that pkg/crashpoint lists.
func names(t *testing.T) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.FromSlash("../../../../pkg/crashpoint/step.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	steps := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if value, ok := n.(*ast.BasicLit); ok {
			text, err := strconv.Unquote(value.Value)
			if err != nil || steps[text] || !strings.Contains(text, "/") {
				t.Errorf("step %s is no name, or a second one: %v", value.Value, err)
			}
			steps[text] = true
		}
		return true
	})
	if len(steps) == 0 {
		t.Fatal("no steps")
	}
	return steps
}

// TestEveryStepIsReached fails where a step has no life in which a process dies
// at it.
func TestEveryStepIsReached(t *testing.T) {
	t.Parallel()
	steps := names(t)
	for _, step := range slices.Sorted(maps.Keys(steps)) {
		if lives[step].begin == nil {
			t.Errorf("no life has step %s", step)
		}
	}
	for step := range lives {
		if !steps[step] {
			t.Errorf("step %s is not in the list", step)
		}
	}
}
