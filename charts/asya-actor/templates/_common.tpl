{{/*
What all charts of Asya share. The file is the same in each of them, byte for byte, so that each installs from its
folder alone and an umbrella chart may hold them all.
*/}}

{{/* Name of the chart, or what nameOverride says. */}}
{{- define "asya.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* What the objects are called: the release if it contains the chart's name, else both joined. */}}
{{- define "asya.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "asya.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels that never change: what selectors use. */}}
{{- define "asya.selectorLabels" -}}
app.kubernetes.io/name: {{ include "asya.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "asya.labels" -}}
helm.sh/chart: {{ include "asya.chart" . }}
{{ include "asya.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: asya
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
An image reference. Arguments: image (a whole reference as text, or registry, repository, tag and digest), default (its
repository unless it says), root. Without a tag it is that of the chart's appVersion; a digest wins over a tag.
*/}}
{{- define "asya.image" -}}
{{- $global := default dict .root.Values.global -}}
{{- if kindIs "string" .image -}}
{{- .image | default (printf "%s:%s" .default .root.Chart.AppVersion) -}}
{{- else -}}
{{- $image := default dict .image -}}
{{- $registry := default $global.imageRegistry $image.registry -}}
{{- $repository := default .default $image.repository -}}
{{- if $registry }}{{ printf "%s/" (trimSuffix "/" $registry) }}{{ end -}}
{{- $repository -}}
{{- if $image.digest -}}
{{- printf "@%s" $image.digest -}}
{{- else -}}
{{- printf ":%s" (default .root.Chart.AppVersion (toString (default "" $image.tag))) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Pull secrets of this chart and of all, each written as text or as {name}. */}}
{{- define "asya.imagePullSecrets" -}}
{{- $global := default dict .Values.global -}}
{{- $secrets := list -}}
{{- range concat (default list $global.imagePullSecrets) (default list .Values.imagePullSecrets) -}}
{{- if kindIs "string" . -}}{{- $secrets = append $secrets (dict "name" .) -}}{{- else -}}{{- $secrets = append $secrets . -}}{{- end -}}
{{- end -}}
{{- with $secrets -}}
imagePullSecrets:
{{ toYaml (uniq .) | indent 2 }}
{{- end -}}
{{- end -}}

{{/*
Joins lists of environment variables; of two with the same name the later one holds, at the place of the first. The API
server refuses duplicates that are applied. Arguments: lists.
*/}}
{{- define "asya.env" -}}
{{- $order := list -}}
{{- $byName := dict -}}
{{- range .lists -}}
{{- range . -}}
{{- if not (hasKey $byName .name) -}}{{- $order = append $order .name -}}{{- end -}}
{{- $_ := set $byName .name . -}}
{{- end -}}
{{- end -}}
{{- $env := list -}}
{{- range $order -}}{{- $env = append $env (get $byName .) -}}{{- end -}}
{{- toYaml $env -}}
{{- end -}}

{{/* Of containers that run one command and end: checks and hooks. */}}
{{- define "asya.taskSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "asya.taskResources" -}}
requests: {cpu: 10m, memory: 32Mi}
limits: {memory: 128Mi}
{{- end -}}
