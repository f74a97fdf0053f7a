{{/* Labels of an object; takes the component's name. */}}
{{- define "waygate.labels" -}}
{app.kubernetes.io/name: waygate, app.kubernetes.io/component: {{ . -}} }
{{- end }}

{{/* The release's namespace, in quotes where YAML would read a number or a boolean. */}}
{{- define "waygate.namespace" -}}
{{ toYaml .Release.Namespace }}
{{- end }}

{{/* The user that the worker is. */}}
{{- define "waygate.workerUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:waygate-worker
{{- end }}

{{/* The served namespaces. Waygate's own is never one: its pods would wait for themselves. */}}
{{- define "waygate.namespaceSelector" -}}
{{- with .Values.namespaceSelector.matchLabels }}
matchLabels: {{ toJson . }}
{{- end }}
matchExpressions:
  - {key: kubernetes.io/metadata.name, operator: NotIn, values: [kube-system, {{ include "waygate.namespace" . }}]}
{{- range .Values.namespaceSelector.matchExpressions }}
  - {{ toJson . }}
{{- end }}
{{- end }}

{{/* The configuration file, narrowed to the served namespaces. */}}
{{- define "waygate.config" -}}
{{- $selector := dict }}
{{- range $field, $value := .Values.namespaceSelector }}
{{- if $value }}
{{- $_ := set $selector $field $value }}
{{- end }}
{{- end }}
{{- $config := deepCopy .Values.config }}
{{- if $selector }}
{{- $config = mergeOverwrite $config (dict "serve" (dict "namespaceSelector" $selector)) }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{/* Address at which the API server calls the webhook; takes a list of the context and the path. */}}
{{- define "waygate.clientConfig" -}}
{{- $ := index . 0 }}
{{- $webhook := $.Values.webhook }}
{{- $config := dict }}
{{- if $webhook.url }}
{{- $_ := set $config "url" (printf "%s%s" $webhook.url (index . 1)) }}
{{- else }}
{{- $_ := set $config "service" (dict "namespace" $.Release.Namespace "name" "waygate-webhook" "path" (index . 1) "port" 443) }}
{{- end }}
{{- if $webhook.caBundle }}
{{- $_ := set $config "caBundle" (b64enc $webhook.caBundle) }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{/* Restrictions of every pod, and of every container. */}}
{{- define "waygate.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}
{{- define "waygate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Conditions that registrations and policy share. */}}
{{- define "waygate.isNoMirrorPod" -}}
- name: is-no-mirror-pod
  expression: "!('kubernetes.io/config.mirror' in object.metadata.?annotations.orValue({}))"
{{- end }}
{{- define "waygate.keyPattern" -}}
'^(k8s[.]aliyun[.]com|network[.]alibabacloud[.]com|waygate[.]dev)/'
{{- end }}
{{- define "waygate.hasOurKeyOrGate" -}}
- name: has-our-key-or-gate
  expression: >-
    [object, oldObject].exists(pod, pod != null && (
      pod.metadata.?annotations.orValue({}).exists(key,
        key.matches({{ include "waygate.keyPattern" . }}) && !key.contains('/allocated-'))
      || pod.spec.?readinessGates.orValue([]).exists(gate,
        gate.conditionType in ['k8s.aliyun.com/eip', 'k8s.aliyun.com/dnat'])))
{{- end }}
