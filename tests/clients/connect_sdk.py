"""The pipedream package as a product's server uses it; only the base URL is ours.

    python connect_sdk.py ORIGIN_OF_THE_API KEY
"""

import json
import os
import subprocess
import sys
from datetime import datetime

from pipedream import Pipedream
from pipedream.core.api_error import ApiError

api, key = sys.argv[1:]
client = Pipedream()
user = "user of Python+é"

made = client.tokens.create(
    external_user_id=user,
    expires_in=3600,
    allowed_origins=["https://app.example.com"],
    success_redirect_uri="https://app.example.com/ok",
    webhook_uri="https://app.example.com/hook",
)
assert made.token.startswith("ctok_") and made.token in made.connect_link_url
assert isinstance(made.expires_at, datetime)
valid = client.tokens.validate(made.token, app_id="acme")
assert valid.success and valid.app.name_slug == "acme"


def connect(app):
    token = client.tokens.create(external_user_id=user).token
    cfmap = json.dumps({"api_key": key})
    return client.accounts.create(app_slug=app, cfmap_json=cfmap, connect_token=token, name="mine")


account = connect("acme")
assert account.id.startswith("apn_") and account.healthy and account.external_id == user
connect("acme")
connect("other")
ids = [found.id for found in client.accounts.list(external_user_id=user, limit=1)]
assert len(ids) == len(set(ids)) == 3, ids
assert len(client.accounts.list_by_external_user(user.replace(" ", "%20").replace("+", "%2B"))) == 3
opened = client.accounts.retrieve(account.id, include_credentials=True)
assert opened.credentials.api_key == key
assert client.accounts.retrieve(account.id).credentials is None
try:
    client.accounts.retrieve("apn_nothing")
    raise AssertionError("an unknown account was found")
except ApiError as error:
    assert error.status_code == 404, error

slugs = [app.name_slug for app in client.apps.list(limit=10, sort_key="name_slug", sort_direction="asc")]
assert len(slugs) > 20 and "slack" in slugs and len(slugs) == len(set(slugs))
assert client.apps.retrieve("acme").data.auth_type == "keys"
assert any(category.name == "testing" for category in client.app_categories.list())
assert [app.name_slug for app in client.projects.retrieve_info().apps] == ["cloud"]
assert [project.name for project in client.projects.list()] == ["product"]
assert any(found.external_id == user for found in client.users.list(limit=100))

mine = {"external_user_id": user, "account_id": account.id}
told = client.proxy.get(f"{api}/echo/a%20b?page=1&tag=x", headers={"X-Custom-Header": "v1"}, **mine)
assert told["method"] == "GET" and told["path"] == "/echo/a%20b?page=1&tag=x", told
assert told["headers"]["x-custom-header"] == "v1"
body = {"text": "hello, wörld", "n": 1, "nested": {"a": [1, None, True]}}
for method in ["post", "put", "patch"]:
    call = getattr(client.proxy, method)
    told = call(f"{api}/echo", body=body, headers={"X-Idempotency-Key": "k-1"}, **mine)
    assert told["method"] == method.upper() and json.loads(told["body"]) == body, told
    assert told["headers"]["x-idempotency-key"] == "k-1"
assert client.proxy.delete(f"{api}/echo", **mine)["method"] == "DELETE"
assert client.proxy.get("/rel", params={"x": "1"}, **mine)["path"] == "/v1/rel?x=1"
assert client.proxy.get(f"{api}/redirect?/there", **mine)["path"] == "/there"
try:
    client.proxy.get("https://evil.test/", **mine)
    raise AssertionError("a host of no business was reached")
except ApiError as error:
    assert error.status_code == 400 and "not allowed" in str(error.body), error

# What is decided beforehand.
made = client.app_overrides.create(app="desk", name="one", cfmap={"subdomain": "one"})
assert made.id.startswith("ao_") and made.app.name_slug == "desk" and made.cfmap == {"subdomain": "one"}
assert client.app_overrides.update(made.id, name="renamed").name == "renamed"
assert client.app_overrides.retrieve(made.id).cfmap == {"subdomain": "one"}
assert [found.id for found in client.app_overrides.list(app="desk", limit=1)] == [made.id]
token = client.tokens.create(external_user_id=user).token
valid = client.tokens.validate(token, app_override_id=made.id)
assert (valid.success, valid.app_override_field_names) == (True, ["subdomain"]), valid
cfmap = json.dumps({"api_key": key, "subdomain": "evil"})
desk = client.accounts.create(app_slug="desk", cfmap_json=cfmap, connect_token=token, app_override_id=made.id)
assert client.accounts.retrieve(desk.id, include_credentials=True).credentials.subdomain == "one"
client.app_overrides.delete(made.id)
client.accounts.delete(desk.id)

# By consent, on the page that the link leads to.
made = client.tokens.create(external_user_id="who-consents", app_id="cloud")
subprocess.run(["node", "connect_by_page.mjs", made.connect_link_url], check=True)
cloud = next(iter(client.accounts.list(external_user_id="who-consents", include_credentials=True)))
assert (cloud.app.name_slug, cloud.name) == ("cloud", "ann@acme.test"), cloud
assert cloud.credentials.oauth_access_token == key
theirs = {"external_user_id": "who-consents", "account_id": cloud.id}
assert client.proxy.get("/echo", **theirs)["method"] == "GET"
client.accounts.delete(cloud.id)

client.accounts.delete_by_app("other")
client.accounts.delete(account.id)
assert len(client.accounts.list(external_user_id=user).items) == 1
client.users.delete_external_user(user.replace(" ", "%20").replace("+", "%2B"))
assert len(client.accounts.list(external_user_id=user).items) == 0
# Without a secret: by signing with a key of its own.
if "COUNTERSIGN_TEST_KEY" in os.environ:
    signing = Pipedream(
        client_secret=None,
        private_key=open(os.environ["COUNTERSIGN_TEST_KEY"], encoding="utf-8").read(),
        key_id="k1",
    )
    assert len(signing.accounts.list(external_user_id=user).items) == 0
print("all is well")
