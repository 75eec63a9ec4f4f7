{{- define "stockade.name" -}}
{{- if eq .Release.Name .Chart.Name }}{{ .Chart.Name }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end -}}
{{- end -}}

{{- define "stockade.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "stockade.labels" -}}
{{ include "stockade.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- /* The configuration file. The level of isolation is the chart's, unless the configuration names one. */ -}}
{{- define "stockade.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if eq .Values.isolation "process" -}}
{{- $defaults := get $config "defaults" | default dict -}}
{{- if not (hasKey $defaults "isolation") -}}
{{- $_ := set $defaults "isolation" "process" -}}
{{- end -}}
{{- $_ := set $config "defaults" $defaults -}}
{{- end -}}
{{ toYaml $config }}
{{- end -}}
