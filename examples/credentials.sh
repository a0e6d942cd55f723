#!/usr/bin/env bash
# For a program that must have the secret itself, such as one that speaks no HTTP. Needs the scope
# connect:credentials:read, and `export = true` in [vault].
#   bash credentials.sh EXTERNAL_USER_ID
set -euo pipefail
token=$(curl -sSf -u "$PIPEDREAM_CLIENT_ID:$PIPEDREAM_CLIENT_SECRET" -d grant_type=client_credentials \
    "$PIPEDREAM_BASE_URL/v1/oauth/token" | jq -r .access_token)
curl -sSfG "$PIPEDREAM_BASE_URL/v1/connect/$PIPEDREAM_PROJECT_ID/accounts" \
    -H "Authorization: Bearer $token" -H "x-pd-environment: $PIPEDREAM_PROJECT_ENVIRONMENT" \
    --data-urlencode "external_user_id=$1" -d app=slack -d include_credentials=true |
    jq -r '.data[0].credentials | keys[]'
