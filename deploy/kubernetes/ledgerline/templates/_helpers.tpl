{{- define "ledgerline.labels" -}}
app.kubernetes.io/name: ledgerline
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .program }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "ledgerline.selector" -}}
app.kubernetes.io/name: ledgerline
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .program }}
{{- end }}

{{- define "ledgerline.deployment" -}}
{{- $values := index .root.Values .program -}}
{{- $config := merge (dict) $values.config .root.Values.config -}}
{{- $connection := .root.Values.connection -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .root.Release.Name }}-{{ .program }}
  labels: {{- include "ledgerline.labels" . | nindent 4 }}
spec:
  {{- if not (and (eq .program "consumer") .root.Values.autoscaling.enabled) }}
  replicas: {{ $values.replicas }}
  {{- end }}
  selector:
    matchLabels: {{- include "ledgerline.selector" . | nindent 6 }}
  strategy:
    rollingUpdate: {maxUnavailable: 1, maxSurge: 1}
  template:
    metadata:
      labels: {{- include "ledgerline.labels" . | nindent 8 }}
    spec:
      # Nothing of ours asks Kubernetes for anything.
      automountServiceAccountToken: false
      {{- with .root.Values.imagePullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      # Above LEDGERLINE_SHUTDOWN_TIMEOUT: the item in hand is finished.
      terminationGracePeriodSeconds: {{ add 10 (include "ledgerline.seconds" (index $config "LEDGERLINE_SHUTDOWN_TIMEOUT")) }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 65534
        runAsGroup: 65534
        fsGroup: 65534
        seccompProfile: {type: RuntimeDefault}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels: {{- include "ledgerline.selector" . | nindent 14 }}
      containers:
        - name: {{ .program }}
          image: {{ printf "%s/%s:%s" .root.Values.image.registry .program (default .root.Chart.AppVersion .root.Values.image.tag) | quote }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          ports:
            - {name: http, containerPort: 8080}
          env:
            - {name: NATS_URL, value: {{ $connection.url | quote }}}
            - {name: LEDGERLINE_LISTEN, value: ":8080"}
            {{- if $connection.credsSecret }}
            - {name: NATS_CREDS, value: /run/secrets/nats/{{ .program }}.creds}
            {{- end }}
            {{- if $connection.caSecret }}
            - {name: NATS_CA, value: /run/secrets/nats-ca/ca.pem}
            {{- end }}
            {{- range $name, $value := $config }}
            - {name: {{ $name }}, value: {{ $value | quote }}}
            {{- end }}
            {{- range $name, $key := .root.Values.secret.files }}
            - {name: {{ $name }}, value: /run/secrets/ledgerline/{{ $key }}}
            {{- end }}
          # The process: that NATS is away is no reason to start it again.
          livenessProbe:
            httpGet: {path: /healthz, port: http}
            periodSeconds: 10
            timeoutSeconds: 3
            failureThreshold: 6
          # NATS is connected and the streams are there.
          readinessProbe:
            httpGet: {path: /readyz, port: http}
            periodSeconds: 5
            timeoutSeconds: 3
          resources: {{- toYaml $values.resources | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            {{- if .root.Values.secret.name }}
            - {name: secret, mountPath: /run/secrets/ledgerline, readOnly: true}
            {{- end }}
            {{- if $connection.credsSecret }}
            - {name: nats, mountPath: /run/secrets/nats, readOnly: true}
            {{- end }}
            {{- if $connection.caSecret }}
            - {name: nats-ca, mountPath: /run/secrets/nats-ca, readOnly: true}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {sizeLimit: {{ $values.scratch }}}
        {{- if .root.Values.secret.name }}
        - name: secret
          secret: {secretName: {{ .root.Values.secret.name }}, defaultMode: 0440}
        {{- end }}
        {{- if $connection.credsSecret }}
        - name: nats
          secret:
            secretName: {{ $connection.credsSecret }}
            defaultMode: 0440
            # Its own, and no other program's.
            items: [{key: {{ .program }}.creds, path: {{ .program }}.creds}]
        {{- end }}
        {{- if $connection.caSecret }}
        - name: nats-ca
          secret: {secretName: {{ $connection.caSecret }}, items: [{key: ca.pem, path: ca.pem}]}
        {{- end }}
{{- end }}

{{/* Seconds of a duration such as 20s or 1m30s. */}}
{{- define "ledgerline.seconds" -}}
{{- $text := toString . -}}
{{- if not (regexMatch "^([0-9]+m)?([0-9]+s)?$" $text) }}{{ fail (printf "LEDGERLINE_SHUTDOWN_TIMEOUT is %q: give minutes and seconds, such as 1m30s" $text) }}{{ end -}}
{{- $minutes := regexFind "[0-9]+m" $text | trimSuffix "m" | default "0" | atoi -}}
{{- $seconds := regexFind "[0-9]+s" $text | trimSuffix "s" | default "0" | atoi -}}
{{- add (mul 60 $minutes) $seconds -}}
{{- end }}
