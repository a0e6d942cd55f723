#!/usr/bin/env bash
# A Slack message as one of your users. No token of Slack's comes near this program.
#   bash api_message.sh EXTERNAL_USER_ID
set -euo pipefail
user=$1
token=$(curl -sSf -u "$PIPEDREAM_CLIENT_ID:$PIPEDREAM_CLIENT_SECRET" -d grant_type=client_credentials \
    "$PIPEDREAM_BASE_URL/v1/oauth/token" | jq -r .access_token)
api() {
    curl -sSf -H "Authorization: Bearer $token" -H "x-pd-environment: $PIPEDREAM_PROJECT_ENVIRONMENT" "$@"
}
connect=$PIPEDREAM_BASE_URL/v1/connect/$PIPEDREAM_PROJECT_ID
account=$(api -G "$connect/accounts" --data-urlencode "external_user_id=$user" -d app=slack | jq -r '.data[0].id')
url=$(printf %s /chat.postMessage | base64 -w0 | tr '+/' '-_')
query=$(jq -rn --arg user "$user" --arg account "$account" '"external_user_id=\($user|@uri)&account_id=\($account)"')
api "$connect/proxy/$url?$query" -H 'Content-Type: application/json' \
    -d '{"channel": "general", "text": "hello"}' | jq .ok
