{{- /* With a pool's name (20) at most 52, beyond which a StatefulSet makes no pods. */ -}}
{{- define "gaggle.name" -}}
{{- if contains .Chart.Name .Release.Name -}}{{ .Release.Name | trunc 30 | trimSuffix "-" }}
{{- else -}}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 30 | trimSuffix "-" }}{{ end -}}
{{- end -}}

{{- define "gaggle.labels" -}}
app.kubernetes.io/name: gaggle
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- /* What selectors go by: never changes over an upgrade. */ -}}
{{- define "gaggle.selector" -}}
app.kubernetes.io/name: gaggle
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "gaggle.image" -}}
{{- $i := .root.Values.image -}}
{{ printf "%s%s:%s" $i.registry (get $i .which) ($i.tag | default .root.Chart.AppVersion) }}
{{- end -}}

{{- define "gaggle.authSecret" -}}
{{ .Values.auth.existingSecret | default (printf "%s-tokens" (include "gaggle.name" .)) }}
{{- end -}}

{{- /* The Secret of the routers' certificate; empty: no TLS. */ -}}
{{- define "gaggle.tlsSecret" -}}
{{- if .Values.tls.existingSecret }}{{ .Values.tls.existingSecret }}
{{- else if .Values.tls.issuer }}{{ include "gaggle.name" . }}-tls{{ end -}}
{{- end -}}

{{- define "gaggle.scheme" -}}
{{ if include "gaggle.tlsSecret" . }}tls+tcp{{ else }}tcp{{ end }}
{{- end -}}

{{- /* Port 0 of ten is for tcp or tls+tcp; port 1, behind the Ingress, for ws. */ -}}
{{- define "gaggle.listen" -}}
{{- $address := .root.Values.router.address -}}
{{ include "gaggle.scheme" .root }}://{{ $address }}:{{ .port }}0
{{- if .root.Values.ingress.enabled }},ws://{{ $address }}:{{ .port }}1/{{ .path }}{{ end }}
{{- end -}}

{{- define "gaggle.clientUrl" -}}
{{ include "gaggle.scheme" . }}://{{ include "gaggle.name" . }}.{{ .Release.Namespace }}.svc:7400
{{- end -}}

{{- /* A name with the address of every router: a worker dials them all. */ -}}
{{- define "gaggle.workerUrl" -}}
{{ include "gaggle.scheme" . }}://{{ include "gaggle.name" . }}-routers.{{ .Release.Namespace }}.svc:7410
{{- end -}}

{{- /* A pool with what it does not say itself, also of its maps; sprig's merges would take a 0 or a
false of the pool for something that it does not say. */ -}}
{{- define "gaggle.pool" -}}
{{- $pool := deepCopy .root.Values.poolDefaults -}}
{{- range $key, $value := .pool -}}
{{- if kindIs "map" $value -}}
{{- $map := get $pool $key | default dict -}}
{{- range $inner, $item := $value }}{{ $_ := set $map $inner $item }}{{ end -}}
{{- $_ := set $pool $key $map -}}
{{- else -}}
{{- $_ := set $pool $key $value -}}
{{- end -}}
{{- end -}}
{{ toJson $pool }}
{{- end -}}

{{- /* A setting's value: large numbers are not to become 8e+09. */ -}}
{{- define "gaggle.setting" -}}
{{ if kindIs "string" . }}{{ . }}{{ else }}{{ toJson . }}{{ end }}
{{- end -}}

{{- define "gaggle.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- /* Not before the Services have taken the pod's address out; needs no shell in the image. */ -}}
{{- define "gaggle.preStop" -}}
{{- if semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version }}
lifecycle: {preStop: {sleep: {seconds: 5}}}
{{- end -}}
{{- end -}}
