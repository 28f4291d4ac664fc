{{/*
The slo-exporter, as an entry of `containers` (of `initContainers` with sidecar.native), and the volumes it needs.
In a chart that depends on this one:

      containers:
        - name: vllm
          ...
        {{- include "llm-slo.sidecar" (index .Subcharts "llm-slo") | nindent 8 }}
      {{- with include "llm-slo.volumes" (index .Subcharts "llm-slo") }}
      volumes:
        {{- . | nindent 8 }}
      {{- end }}

It has no readiness probe: an exporter in trouble must not take the engine out of service.
*/}}
{{- define "llm-slo.sidecar" -}}
{{- $spec := include "llm-slo.specConfigMap" . -}}
{{- with .Values.sidecar -}}
- name: slo-exporter
  image: {{ include "llm-slo.image" $ }}
  imagePullPolicy: {{ .image.pullPolicy }}
  {{- if .native }}
  restartPolicy: Always
  {{- end }}
  command: [slo-exporter]
  args:
    {{- range .engines }}
    - {{ printf "--engine=%s" . | quote }}
    {{- end }}
    - --gpu={{ .gpu }}
    {{- with .dcgmUrl }}
    - {{ printf "--dcgm-url=%s" . | quote }}
    {{- end }}
    {{- with .gpuUrl }}
    - {{ printf "--gpu-url=%s" . | quote }}
    {{- end }}
    {{- with .price }}
    - {{ printf "--price=%s" . | quote }}
    {{- end }}
    {{- if $spec }}
    - --slo=/etc/llm-slo/slo.yaml
    {{- end }}
    - --listen=0.0.0.0:{{ .port }}
    {{- range .extraArgs }}
    - {{ quote . }}
    {{- end }}
  env:
    - name: HOST_IP
      valueFrom: {fieldRef: {fieldPath: status.hostIP}}
    - name: POD_NAME
      valueFrom: {fieldRef: {fieldPath: metadata.name}}
    - name: POD_NAMESPACE
      valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
    {{- with .env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    - name: slo-metrics
      containerPort: {{ .port }}
  livenessProbe:
    httpGet: {path: /healthz, port: slo-metrics}
    periodSeconds: 30
    timeoutSeconds: 5
    failureThreshold: 4
  resources:
    {{- toYaml .resources | nindent 4 }}
  securityContext:
    {{- toYaml .securityContext | nindent 4 }}
  {{- if $spec }}
  volumeMounts:
    - name: llm-slo-spec
      mountPath: /etc/llm-slo
      readOnly: true
  {{- end }}
{{- end }}
{{- end }}

{{- define "llm-slo.volumes" -}}
{{- with include "llm-slo.specConfigMap" . -}}
- name: llm-slo-spec
  configMap:
    name: {{ . }}
{{- end }}
{{- end }}

{{- define "llm-slo.image" -}}
{{- with .Values.sidecar.image -}}
{{- $repository := required "llm-slo: set sidecar.image.repository; no image of slo-exporter is published yet" .repository -}}
{{- ternary (printf "%s@%s" $repository .digest) (printf "%s:%s" $repository (.tag | default $.Chart.AppVersion)) (ne .digest "") -}}
{{- end -}}
{{- end }}
