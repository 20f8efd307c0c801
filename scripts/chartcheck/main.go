// Command chartcheck renders the Helm chart as helm would, offline, with several sets
// of values, and reads each object strictly into the type that the API server, the
// Prometheus operator or KEDA has for it. Then it looks at what no schema says: that
// selectors find their pods, that nothing runs as root or writes its root, that the
// shutdown fits, that each setting exists, and that KEDA's trigger names our stream.
//
// It is a module of its own, outside the workspace: helm would join the product's
// build list.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

const folder = "deploy/kubernetes/ledgerline"

// cases are the sets of values that are rendered, and what must come out besides the
// three Deployments and Services.
var cases = []struct {
	name   string
	values string
	kinds  []string
}{
	{"defaults", "", []string{"PodDisruptionBudget", "NetworkPolicy"}},
	{"everything", `
connection: {caSecret: nats-ca}
autoscaling: {enabled: true}
serviceMonitor: {enabled: true, labels: {release: prometheus}}
ingress: {enabled: true, host: ledgerline.example, className: nginx, annotations: {a: b}, tls: [{hosts: [ledgerline.example], secretName: tls}]}
networkPolicy: {webhookFrom: [{ipBlock: {cidr: 192.0.2.0/24}}], metricsFrom: [{namespaceSelector: {matchLabels: {team: monitoring}}}]}
imagePullSecrets: [{name: registry}]
consumer: {config: {LEDGERLINE_SINK: "https://erp.example/items"}}
`, []string{"PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor", "ScaledObject", "Ingress"}},
	{"little", `
podDisruptionBudget: {enabled: false}
networkPolicy: {enabled: false}
connection: {credsSecret: ""}
secret: {name: "", files: {}}
config: {LEDGERLINE_SHUTDOWN_TIMEOUT: 1m30s, LEDGERLINE_PLEO_TOKEN_FILE: /run/secrets/other}
`, nil},
}

func main() {
	if err := check(); err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
}

func check() error {
	c, err := loader.Load(folder)
	if err != nil {
		return fmt.Errorf("load the chart: %w", err)
	}
	if err := c.Validate(); err != nil {
		return fmt.Errorf("Chart.yaml: %w", err)
	}
	settings, err := os.ReadFile("docs/configuration.md")
	if err != nil {
		return fmt.Errorf("read the settings: %w", err)
	}
	var faults []error
	for _, one := range cases {
		objects, err := render(c, one.values)
		if err == nil {
			err = objects.check(one.kinds, string(settings))
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("with the values %q: %w", one.name, err))
			continue
		}
		fmt.Printf("chart: %d objects with the values %q\n", objects.count, one.name)
	}
	// A fault in the values is told, not rendered.
	if _, err := render(c, "config: {LEDGERLINE_SHUTDOWN_TIMEOUT: soon}"); err == nil || !strings.Contains(err.Error(), "LEDGERLINE_SHUTDOWN_TIMEOUT") {
		faults = append(faults, fmt.Errorf("a shutdown time of \"soon\" is rendered: %v", err))
	}
	return errors.Join(faults...)
}

// objects is what was rendered, by the types of those who read it.
type objects struct {
	count       int
	kinds       map[string]int
	deployments []appsv1.Deployment
	services    []corev1.Service
	budgets     []policyv1.PodDisruptionBudget
	policies    []networkingv1.NetworkPolicy
	monitors    []monitoringv1.ServiceMonitor
	scaled      []scaledObject
	ingresses   []networkingv1.Ingress
}

func render(c *chart.Chart, text string) (*objects, error) {
	given, err := chartutil.ReadValues([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("read the values: %w", err)
	}
	values, err := chartutil.ToRenderValues(c, given, chartutil.ReleaseOptions{Name: "test", Namespace: "accounting"}, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, fmt.Errorf("merge the values: %w", err)
	}
	files, err := engine.Engine{Strict: true}.Render(c, values)
	if err != nil {
		return nil, fmt.Errorf("render: %w", err)
	}
	o := &objects{kinds: map[string]int{}}
	for name, text := range files {
		if filepath.Ext(name) != ".yaml" {
			continue
		}
		for _, document := range strings.Split("\n"+text, "\n---") {
			if err := o.take(document); err != nil {
				return nil, fmt.Errorf("%s: %w\n%s", name, err, document)
			}
		}
	}
	return o, nil
}

// take reads an object; a field that its type does not have is a fault.
func (o *objects) take(document string) error {
	var meta metav1.TypeMeta
	if err := yaml.Unmarshal([]byte(document), &meta); err != nil {
		return fmt.Errorf("parse: %w", err)
	}
	if meta.Kind == "" {
		if len(bytes.TrimSpace([]byte(document))) > 0 && !strings.HasPrefix(strings.TrimSpace(document), "#") {
			return errors.New("no object")
		}
		return nil
	}
	o.count++
	o.kinds[meta.Kind]++
	switch meta.APIVersion + " " + meta.Kind {
	case "apps/v1 Deployment":
		return into(document, &o.deployments)
	case "v1 Service":
		return into(document, &o.services)
	case "policy/v1 PodDisruptionBudget":
		return into(document, &o.budgets)
	case "networking.k8s.io/v1 NetworkPolicy":
		return into(document, &o.policies)
	case "networking.k8s.io/v1 Ingress":
		return into(document, &o.ingresses)
	case "monitoring.coreos.com/v1 ServiceMonitor":
		return into(document, &o.monitors)
	case "keda.sh/v1alpha1 ScaledObject":
		return into(document, &o.scaled)
	}
	return fmt.Errorf("an object that nobody checks: %s %s", meta.APIVersion, meta.Kind)
}

func into[T any](document string, list *[]T) error {
	var one T
	if err := yaml.UnmarshalStrict([]byte(document), &one); err != nil {
		return fmt.Errorf("read strictly: %w", err)
	}
	*list = append(*list, one)
	return nil
}

func (o *objects) check(kinds []string, settings string) error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if len(o.deployments) != 3 || len(o.services) != 3 {
		fault("%d Deployments and %d Services", len(o.deployments), len(o.services))
	}
	for kind, n := range o.kinds {
		if kind != "Deployment" && kind != "Service" && !slices.Contains(kinds, kind) {
			fault("%d objects of kind %s were not asked for", n, kind)
		}
	}
	for _, kind := range kinds {
		if o.kinds[kind] == 0 {
			fault("no %s", kind)
		}
	}
	for _, d := range o.deployments {
		checkPod(d, settings, fault)
	}
	// found counts the Deployments whose pods a selector finds.
	found := func(selector map[string]string) (n int) {
		for _, d := range o.deployments {
			if labels.SelectorFromSet(selector).Matches(labels.Set(d.Spec.Template.Labels)) {
				n++
			}
		}
		return n
	}
	for _, s := range o.services {
		if found(s.Spec.Selector) != 1 {
			fault("Service %s finds %d Deployments", s.Name, found(s.Spec.Selector))
		}
	}
	for _, b := range o.budgets {
		if found(b.Spec.Selector.MatchLabels) != 1 {
			fault("PodDisruptionBudget %s finds %d Deployments", b.Name, found(b.Spec.Selector.MatchLabels))
		}
	}
	for _, p := range o.policies {
		if found(p.Spec.PodSelector.MatchLabels) != 1 {
			fault("NetworkPolicy %s finds %d Deployments", p.Name, found(p.Spec.PodSelector.MatchLabels))
		}
	}
	for _, m := range o.monitors {
		n := 0
		for _, s := range o.services {
			if labels.SelectorFromSet(m.Spec.Selector.MatchLabels).Matches(labels.Set(s.Labels)) {
				n++
			}
		}
		if n != 3 {
			fault("ServiceMonitor %s finds %d Services", m.Name, n)
		}
	}
	for _, s := range o.scaled {
		faults = append(faults, s.check(o.deployments))
	}
	return errors.Join(faults...)
}

func checkPod(d appsv1.Deployment, settings string, fault func(string, ...any)) {
	pod := d.Spec.Template.Spec
	if !labels.SelectorFromSet(d.Spec.Selector.MatchLabels).Matches(labels.Set(d.Spec.Template.Labels)) {
		fault("Deployment %s does not find its own pods", d.Name)
	}
	if pod.SecurityContext == nil || pod.SecurityContext.RunAsNonRoot == nil || !*pod.SecurityContext.RunAsNonRoot ||
		pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		fault("Deployment %s may run as root, or has a token for Kubernetes", d.Name)
	}
	volumes := map[string]bool{}
	for _, v := range pod.Volumes {
		volumes[v.Name] = true
	}
	for _, c := range pod.Containers {
		context := c.SecurityContext
		if context == nil || context.ReadOnlyRootFilesystem == nil || !*context.ReadOnlyRootFilesystem ||
			context.AllowPrivilegeEscalation == nil || *context.AllowPrivilegeEscalation ||
			context.Capabilities == nil || !slices.Contains(context.Capabilities.Drop, "ALL") {
			fault("container %s of %s may more than it needs", c.Name, d.Name)
		}
		if c.LivenessProbe == nil || c.ReadinessProbe == nil || c.Resources.Limits.Memory().IsZero() {
			fault("container %s of %s lacks a probe or a limit", c.Name, d.Name)
		}
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				fault("container %s mounts %s, which is not there", c.Name, m.Name)
			}
		}
		for _, e := range c.Env {
			if name := strings.TrimSuffix(e.Name, "_FILE"); !strings.Contains(settings, "| `"+name+"` |") {
				fault("container %s is given %s, which is no setting", c.Name, e.Name)
			}
			if e.Name == "LEDGERLINE_SHUTDOWN_TIMEOUT" {
				timeout, err := time.ParseDuration(e.Value)
				if err != nil || pod.TerminationGracePeriodSeconds == nil || float64(*pod.TerminationGracePeriodSeconds) < timeout.Seconds()+5 {
					fault("container %s has %s to end, and is killed after %v s", c.Name, e.Value, pod.TerminationGracePeriodSeconds)
				}
			}
		}
	}
}
