#!/usr/bin/env bash
# A Slack message through the proxy: no token here, and nothing but curl. The proxy's address, with
# the caller's name and token in it, and its CA come from the environment:
#   eval "$(countersign env --caller NAME)" && ./proxy_message.sh
# or, with no token in the environment either:
#   countersign run -- ./proxy_message.sh
set -euo pipefail

curl --silent --show-error --fail-with-body https://slack.com/api/chat.postMessage \
  --data channel=general --data-urlencode text="Sent without a token" | jq .ok
