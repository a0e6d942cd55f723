"""A Slack message as one of your users. No token of Slack's comes near this program.

    python api_message.py EXTERNAL_USER_ID
"""

import sys

from pipedream import Pipedream

user = sys.argv[1]
client = Pipedream()
account = next(iter(client.accounts.list(external_user_id=user, app="slack")))
answer = client.proxy.post(
    "/chat.postMessage",
    external_user_id=user,
    account_id=account.id,
    body={"channel": "general", "text": "hello"},
)
print(answer["ok"])
