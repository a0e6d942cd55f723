"""Python HTTP clients as people use them: no token, no proxy setting, no CA setting in the code.

Usage: python_clients.py CLIENT URL. Posts {"from": CLIENT} and prints the answer's body.
"""

import asyncio
import json
import sys


def with_requests(url, body):
    import requests

    with requests.Session() as session:
        session.post(url, json=body, timeout=20).raise_for_status()
        answer = session.post(url, json=body, timeout=20)
    answer.raise_for_status()
    return answer.text


def with_httpx(url, body):
    import httpx

    with httpx.Client(timeout=20) as client:
        return client.post(url, json=body).raise_for_status().text


def with_httpx_h2(url, body):
    import httpx

    with httpx.Client(timeout=20, http2=True) as client:
        answer = client.post(url, json=body).raise_for_status()
    assert answer.http_version == "HTTP/2", answer.http_version
    return answer.text


def with_aiohttp(url, body):
    import aiohttp
    from yarl import URL

    # aiohttp would write %2F in a query as a slash before it sends anything.
    url = URL(url, encoded=True)

    async def post():
        async with aiohttp.ClientSession(trust_env=True, raise_for_status=True) as session:
            async with session.post(url, json=body) as answer:
                return await answer.text()

    return asyncio.run(post())


def with_urllib(url, body):
    from urllib.request import Request, urlopen

    headers = {"Content-Type": "application/json"}
    request = Request(url, data=json.dumps(body).encode(), headers=headers)
    with urlopen(request, timeout=20) as answer:
        return answer.read().decode()


if __name__ == "__main__":
    client, url = sys.argv[1:]
    print(globals()[f"with_{client}"](url, {"from": client}))
