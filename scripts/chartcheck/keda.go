package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// scaledObject has the fields of KEDA's own type of which the chart uses some: apis/
// keda/v1alpha1/scaledobject_types.go and withtriggers_types.go at 8b4f083. KEDA's
// module would bring every cloud's client along.
type scaledObject struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		ScaleTargetRef *struct {
			Name                   string `json:"name"`
			APIVersion             string `json:"apiVersion,omitempty"`
			Kind                   string `json:"kind,omitempty"`
			EnvSourceContainerName string `json:"envSourceContainerName,omitempty"`
		} `json:"scaleTargetRef"`
		PollingInterval       *int32 `json:"pollingInterval,omitempty"`
		InitialCooldownPeriod *int32 `json:"initialCooldownPeriod,omitempty"`
		CooldownPeriod        *int32 `json:"cooldownPeriod,omitempty"`
		IdleReplicaCount      *int32 `json:"idleReplicaCount,omitempty"`
		MinReplicaCount       *int32 `json:"minReplicaCount,omitempty"`
		MaxReplicaCount       *int32 `json:"maxReplicaCount,omitempty"`
		Triggers              []struct {
			Type              string            `json:"type"`
			Name              string            `json:"name,omitempty"`
			UseCachedMetrics  bool              `json:"useCachedMetrics,omitempty"`
			Metadata          map[string]string `json:"metadata"`
			AuthenticationRef *struct {
				Name string `json:"name"`
				Kind string `json:"kind,omitempty"`
			} `json:"authenticationRef,omitempty"`
			MetricType string `json:"metricType,omitempty"`
		} `json:"triggers"`
	} `json:"spec"`
}

// triggerFields are the names that the nats-jetstream trigger reads, as the tags of
// natsJetStreamMetadata in pkg/scalers/nats_jetstream_scaler.go at 8b4f083 say. KEDA
// ignores others in silence.
var triggerFields = []string{"account", "accountID", "stream", "consumer", "lagThreshold", "activationLagThreshold", "useHttps", "natsServerMonitoringEndpoint"}

func (s scaledObject) check(deployments []appsv1.Deployment) error {
	i := slices.IndexFunc(deployments, func(d appsv1.Deployment) bool {
		return s.Spec.ScaleTargetRef != nil && d.Name == s.Spec.ScaleTargetRef.Name
	})
	if i < 0 || len(s.Spec.Triggers) != 1 {
		return fmt.Errorf("ScaledObject %s scales nothing, or by %d triggers", s.Name, len(s.Spec.Triggers))
	}
	var faults []error
	if deployments[i].Spec.Replicas != nil {
		faults = append(faults, fmt.Errorf("%s has a number of replicas: each upgrade would undo the scaling", deployments[i].Name))
	}
	trigger := s.Spec.Triggers[0]
	stream, err := constant("StreamPipe")
	faults = append(faults, err)
	durable, err := constant("DurableConsumer")
	faults = append(faults, err)
	for name := range trigger.Metadata {
		if !slices.Contains(triggerFields, name) {
			faults = append(faults, fmt.Errorf("the trigger reads no %s", name))
		}
	}
	if trigger.Type != "nats-jetstream" || trigger.Metadata["stream"] != stream || trigger.Metadata["consumer"] != durable {
		faults = append(faults, fmt.Errorf("the trigger %s watches %s of %s, not %s of %s", trigger.Type,
			trigger.Metadata["consumer"], trigger.Metadata["stream"], durable, stream))
	}
	if trigger.Metadata["account"] == "" || trigger.Metadata["natsServerMonitoringEndpoint"] == "" {
		faults = append(faults, errors.New("the trigger has no account or no endpoint"))
	}
	for _, name := range []string{"lagThreshold", "activationLagThreshold"} {
		if _, err := strconv.ParseInt(trigger.Metadata[name], 10, 64); err != nil {
			faults = append(faults, fmt.Errorf("%s of the trigger: %w", name, err))
		}
	}
	return errors.Join(faults...)
}

// constant is one of pkg/subject, read as text: the module of the product would have to
// be followed here at each change of what it requires.
func constant(name string) (string, error) {
	const file = "pkg/subject/subject.go"
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read the names of the streams: %w", err)
	}
	found := regexp.MustCompile(name + `\s+= "([^"]+)"`).FindSubmatch(text)
	if found == nil {
		return "", fmt.Errorf("%s has no %s", file, name)
	}
	return string(found[1]), nil
}
