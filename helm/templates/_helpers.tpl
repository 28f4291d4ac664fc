{{/* Start of every object's name. */}}
{{- define "llm-slo.fullname" -}}
{{- $default := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- .Values.fullnameOverride | default $default -}}
{{- end }}

{{/* Labels of an object: (list $ <labels of its section>). The user's win over ours. */}}
{{- define "llm-slo.labels" -}}
{{- $root := index . 0 -}}
{{- $own := dict
  "app.kubernetes.io/name" "llm-slo"
  "app.kubernetes.io/instance" $root.Release.Name
  "app.kubernetes.io/version" $root.Chart.AppVersion
  "app.kubernetes.io/managed-by" $root.Release.Service
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name ($root.Chart.Version | replace "+" "_")) -}}
{{- merge (dict) (index . 1) $root.Values.additionalLabels $own | toYaml -}}
{{- end }}

{{/* ConfigMap that holds the SLO spec; empty when there is none. */}}
{{- define "llm-slo.specConfigMap" -}}
{{- with .Values.slo -}}
{{- if and .spec .existingConfigMap }}{{ fail "llm-slo: set slo.spec or slo.existingConfigMap, not both" }}{{ end -}}
{{- .existingConfigMap | default (ternary (printf "%s-spec" (include "llm-slo.fullname" $)) "" (ne .spec "")) -}}
{{- end -}}
{{- end }}
