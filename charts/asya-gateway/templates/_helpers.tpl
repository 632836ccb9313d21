{{- define "gateway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "asya.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/*
Where PostgreSQL is, as JSON {kind: bundled|external|none, host, port, database, username, secret, key, sslMode}:
`externalDatabase`, with `config.postgres*` of older values under it, or the chart's own.
*/}}
{{- define "gateway.database" -}}
{{- $external := .Values.externalDatabase -}}
{{- $config := .Values.config -}}
{{- $own := printf "%s-db" (include "asya.fullname" .) -}}
{{- $host := default $config.postgresHost $external.host -}}
{{- if .Values.postgresql.enabled -}}
{{- $auth := .Values.postgresql.auth -}}
{{- dict "kind" "bundled" "host" (printf "%s-postgresql" (include "asya.fullname" .)) "port" 5432 "database" $auth.database "username" $auth.username
  "secret" (default $own $auth.existingSecret) "key" (ternary $auth.existingSecretKey "password" (ne "" $auth.existingSecret)) "sslMode" "disable" | toJson -}}
{{- else if $host -}}
{{- $ref := default dict $config.postgresPasswordSecretRef -}}
{{- $existing := default $ref.name $external.existingSecret -}}
{{- $key := $external.existingSecretKey -}}
{{- if and (not $external.existingSecret) $ref.name -}}{{- $key = default "password" $ref.key -}}{{- end -}}
{{- $password := default $config.postgresPassword $external.password -}}
{{- dict "kind" "external" "host" $host "port" $external.port
  "database" (ternary $config.postgresDatabase $external.database (and (ne "" (default "" $config.postgresDatabase)) (eq $external.database "asya_gateway")))
  "username" (ternary $config.postgresUsername $external.username (and (ne "" (default "" $config.postgresUsername)) (eq $external.username "asya")))
  "secret" (default (ternary $own "" (ne "" (default "" $password))) $existing) "key" (ternary $key "password" (ne "" (default "" $existing)))
  "password" (default "" $password) "isOwn" (and (not $existing) (ne "" (default "" $password))) "sslMode" $external.sslMode | toJson -}}
{{- else -}}
{{- dict "kind" "none" | toJson -}}
{{- end -}}
{{- end -}}

{{/* The database's address without password, which travels as PGPASSWORD: no character of it needs an escape. */}}
{{- define "gateway.databaseURL" -}}
{{- $database := include "gateway.database" . | fromJson -}}
{{- printf "postgres://%s@%s:%v/%s?sslmode=%s" (urlquery $database.username | replace "+" "%20") $database.host (int $database.port) (urlquery $database.database | replace "+" "%20") $database.sslMode -}}
{{- end -}}

{{/* rabbitmq, sqs or local (contract gateway §11: sqsRegion alone chooses SQS while rabbitmqURL is the default). */}}
{{- define "gateway.transport" -}}
{{- $config := .Values.config -}}
{{- $isDefault := eq (default "" $config.rabbitmqURL) "amqp://guest:guest@rabbitmq:5672/" -}}
{{- if $config.transport -}}{{- $config.transport -}}
{{- else if $config.sqsEndpoint -}}sqs
{{- else if or .Values.rabbitmq.host .Values.rabbitmq.urlSecretRef -}}rabbitmq
{{- else if and $config.sqsRegion $isDefault -}}sqs
{{- else if $config.rabbitmqURL -}}rabbitmq
{{- else -}}sqs
{{- end -}}
{{- end -}}

{{/* Whether config.rabbitmqURL is what is used: then it is kept in a Secret. */}}
{{- define "gateway.ownsRabbitMQURL" -}}
{{- if and (eq (include "gateway.transport" .) "rabbitmq") .Values.config.rabbitmqURL (not .Values.rabbitmq.host) (not .Values.rabbitmq.urlSecretRef) -}}true{{- end -}}
{{- end -}}

{{/*
The password of PostgreSQL that the chart keeps in a Secret of its own; empty if it keeps none. It is never made up:
tools that render without a cluster would make up another one each time. A bundled database goes on with the one that
its Secret has.
*/}}
{{- define "gateway.ownPassword" -}}
{{- $database := include "gateway.database" . | fromJson -}}
{{- if and (eq $database.kind "bundled") (not .Values.postgresql.auth.existingSecret) -}}
{{- if .Values.postgresql.auth.password -}}{{- .Values.postgresql.auth.password -}}
{{- else -}}
{{- $found := lookup "v1" "Secret" .Release.Namespace (printf "%s-db" (include "asya.fullname" .)) -}}
{{- get (default dict $found.data) "password" | default "" | b64dec -}}
{{- end -}}
{{- else if and (eq $database.kind "external") $database.isOwn -}}
{{- $database.password -}}
{{- end -}}
{{- end -}}

{{/*
How often the content of a Secret of this chart has changed, so that pods are rolled without anything in them that
tells of the content. 1 where no cluster can be asked. Arguments: root, secret, key, value.
*/}}
{{- define "gateway.revision" -}}
{{- $found := lookup "v1" "Secret" .root.Release.Namespace .secret -}}
{{- if $found -}}
{{- $revision := get (default dict $found.metadata.annotations) "asya.sh/revision" | default "1" | int -}}
{{- if eq (get (default dict $found.data) .key | default "" | b64dec) .value -}}{{- $revision -}}{{- else -}}{{- add1 $revision -}}{{- end -}}
{{- else -}}1{{- end -}}
{{- end -}}

{{- define "gateway.databaseRevision" -}}
{{- with include "gateway.ownPassword" . -}}
{{- include "gateway.revision" (dict "root" $ "secret" (printf "%s-db" (include "asya.fullname" $)) "key" "password" "value" .) -}}
{{- end -}}
{{- end -}}

{{- define "gateway.brokerRevision" -}}
{{- if include "gateway.ownsRabbitMQURL" . -}}
{{- include "gateway.revision" (dict "root" . "secret" (printf "%s-rabbitmq" (include "asya.fullname" .)) "key" "url" "value" .Values.config.rabbitmqURL) -}}
{{- end -}}
{{- end -}}

{{/* Environment of whatever speaks to PostgreSQL, as a YAML list. */}}
{{- define "gateway.databaseEnv" -}}
{{- $database := include "gateway.database" . | fromJson -}}
- name: ASYA_DATABASE_URL
  value: {{ include "gateway.databaseURL" . | quote }}
{{- if $database.secret }}
- name: PGPASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ $database.secret }}
      key: {{ $database.key }}
{{- end }}
{{- end -}}

{{/* What cannot work, in one message. */}}
{{- define "gateway.check" -}}
{{- $database := include "gateway.database" . | fromJson -}}
{{- $problems := list -}}
{{- $local := eq (include "gateway.transport" .) "local" -}}
{{- if eq $database.kind "none" -}}
{{- if gt (int .Values.replicaCount) 1 -}}{{- $problems = append $problems (printf "replicaCount is %v, but SQLite carries one gateway only: set externalDatabase.host or postgresql.enabled" .Values.replicaCount) -}}{{- end -}}
{{- if .Values.autoscaling.enabled -}}{{- $problems = append $problems "autoscaling.enabled needs PostgreSQL, SQLite carries one gateway only: set externalDatabase.host or postgresql.enabled" -}}{{- end -}}
{{- end -}}
{{- if and .Values.postgresql.enabled .Values.externalDatabase.host -}}{{- $problems = append $problems "postgresql.enabled and externalDatabase.host exclude each other" -}}{{- end -}}
{{- if and (eq $database.kind "bundled") (not .Values.postgresql.auth.existingSecret) (not (include "gateway.ownPassword" .)) -}}{{- $problems = append $problems "postgresql.enabled needs a password: put one into a Secret under the key `password` and name it in postgresql.auth.existingSecret, or set postgresql.auth.password" -}}{{- end -}}
{{- if and (eq .Values.auth.mode "keys") (not .Values.auth.keysSecretRef) -}}{{- $problems = append $problems "auth.mode keys needs auth.keysSecretRef: {name, key}" -}}{{- end -}}
{{- if and (eq .Values.auth.mode "oidc") (or (not .Values.auth.oidc.issuer) (not .Values.auth.oidc.audience)) -}}{{- $problems = append $problems "auth.mode oidc needs auth.oidc.issuer and auth.oidc.audience" -}}{{- end -}}
{{- if and (not .Values.routes.createConfigMap) (not .Values.routes.configMapName) -}}{{- $problems = append $problems "routes.createConfigMap is false: name the ConfigMap in routes.configMapName" -}}{{- end -}}
{{- with $problems -}}{{- fail (printf "\n  - %s" (join "\n  - " .)) -}}{{- end -}}
{{- end -}}
