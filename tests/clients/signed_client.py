"""Requests that are signed with OAuth 1.0a, or get their key in the body. Prints what each brought."""

import json

import requests


def say(what, answer):
    print(json.dumps([what, [answer.status_code, answer.text]]), flush=True)


OAUTH, BODY = "https://api.oauth.test/v1", "https://api.body.test/v1"
say("get", requests.get(f"{OAUTH}/a%20b?b=2&a=1+%2F&oauth_token=dummy"))
say("again", requests.get(f"{OAUTH}/a%20b?b=2&a=1+%2F"))
say("form", requests.post(OAUTH, data={"status": "Hello Ladies + Gentlemen", "a": ""}))
say("json", requests.post(OAUTH, json={"a": 1}, headers={"Authorization": "OAuth dummy"}))
say("sha256", requests.get(f"{OAUTH}/x", headers={"countersign-account": "later"}))

HMAC = "https://api.hmac.test/v1"
say("hmac get", requests.get(f"{HMAC}/x?b=%20&a", headers={"x-sign": "dummy", "x_time": "1"}))
say("hmac post", requests.post(HMAC, data="ü".encode()))

say("body json", requests.post(BODY, data='{"b": 1.10, "token": "dummy"}',
                               headers={"content-type": "application/json"}))
say("body form", requests.post(BODY, data="a=%2f&token=dummy&b=+",
                               headers={"content-type": "application/x-www-form-urlencoded"}))
say("body xml", requests.post(BODY, data="<a/>", headers={"content-type": "text/xml"}))
