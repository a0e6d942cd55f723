"""For a program that must have the secret itself, such as one that speaks no HTTP. Needs the scope
connect:credentials:read, and `export = true` in [vault].

    python credentials.py EXTERNAL_USER_ID
"""

import sys

from pipedream import Pipedream

client = Pipedream()
accounts = client.accounts.list(external_user_id=sys.argv[1], app="slack", include_credentials=True)
credentials = next(iter(accounts)).credentials
# By the names of the app's fields; of an OAuth account, `oauth_access_token`.
print(*(name for name, value in credentials if value is not None))
