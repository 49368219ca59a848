{{- define "duovec.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-duovec{{ end }}
{{- end }}

{{/* What a selector has: call with (list $ "component"). */}}
{{- define "duovec.selector" -}}
app.kubernetes.io/name: duovec
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "duovec.labels" -}}
{{ include "duovec.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ (index . 0).Chart.Name }}-{{ (index . 0).Chart.Version }}
{{- end }}

{{/* Nobody is root, and nobody talks to Kubernetes. */}}
{{- define "duovec.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "duovec.container" -}}
imagePullPolicy: {{ .Values.images.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "duovec.modelsVolume" -}}
- name: models
{{- if eq .Values.models.source "sync" }}
  emptyDir: {}
{{- else }}
  persistentVolumeClaim:
    claimName: {{ .Values.models.claim.existing | default (printf "%s-models" (include "duovec.name" .)) }}
{{- end }}
{{- end }}

{{/* Brings the models, or waits until the export job has: config.pbtxt is what publishing writes last. */}}
{{- define "duovec.modelsContainer" -}}
{{- if eq .Values.models.source "sync" }}
- name: models
  image: {{ required "models.sync.image is what copies the models" .Values.models.sync.image }}
  command: {{ required "models.sync.command copies the models to /models" .Values.models.sync.command | toJson }}
  {{- with .Values.models.sync.secretName }}
  envFrom:
    - secretRef: {name: {{ . }}}
  {{- end }}
{{- else }}
- name: models
  image: {{ .image }}
  command:
    - sh
    - -c
    - until test -f /models/{{ .Values.encoders.code }}/config.pbtxt && test -f /models/{{ .Values.encoders.text }}/config.pbtxt; do sleep 2; done
{{- end }}
  {{- include "duovec.container" . | nindent 2 }}
  volumeMounts:
    - {name: models, mountPath: /models}
    - {name: tmp, mountPath: /tmp}
  resources:
    requests: {cpu: 100m, memory: 128Mi}
    limits: {memory: 512Mi}
{{- end }}

{{- define "duovec.databaseCaMount" -}}
- {name: database-ca, mountPath: /database-ca, readOnly: true}
{{- end }}

{{- define "duovec.databaseCaVolume" -}}
- name: database-ca
  secret: {secretName: {{ .Values.database.caSecretName }}, defaultMode: 0440}
{{- end }}

{{/* What the gateway reads, and the migrations with it. */}}
{{- define "duovec.environment" -}}
- name: DUOVEC_DATABASE_URL
  valueFrom:
    secretKeyRef: {name: {{ .Values.database.secretName }}, key: url}
{{- if .Values.database.caSecretName }}
- name: PGSSLROOTCERT
  value: /database-ca/ca.crt
{{- end }}
- name: DUOVEC_ADMIN_KEY
  valueFrom:
    secretKeyRef: {name: {{ .Values.adminKey.secretName }}, key: key}
- name: DUOVEC_TRITON_URL
  value: {{ include "duovec.name" . }}-triton:8001
- name: DUOVEC_MODEL_REPOSITORY
  value: /models
- name: DUOVEC_CODE_ENCODER
  value: {{ .Values.encoders.code }}
- name: DUOVEC_TEXT_ENCODER
  value: {{ .Values.encoders.text }}
- name: DUOVEC_METRICS_LISTEN
  value: 0.0.0.0:9464
{{- if .Values.gateway.tls.secretName }}
- name: DUOVEC_TLS_CERTIFICATE
  value: /tls/tls.crt
- name: DUOVEC_TLS_KEY
  value: /tls/tls.key
{{- if .Values.gateway.tls.clientCa }}
- name: DUOVEC_TLS_CLIENT_CA
  value: /tls/ca.crt
{{- end }}
{{- else if .Values.gateway.allowInsecure }}
- name: DUOVEC_ALLOW_INSECURE
  value: "true"
{{- else }}
{{- fail "name a certificate in gateway.tls.secretName, or set gateway.allowInsecure where a mesh encrypts" }}
{{- end }}
{{- range $name, $value := .Values.gateway.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
