"""An origin that takes nothing unsigned, and computes every signature itself: those of AWS with
botocore's own signer. Plays STS, DynamoDB, IAM, S3, an API gateway that echoes its requests, an API
behind OAuth 1.0a and one that wants its key in the body.

Usage: signed_origin.py CERTIFICATE KEY; the credentials that it expects are in its environment.
Prints its port, and then one line of JSON per request.
"""

import datetime
import base64
import hashlib
import hmac
import json
import os
import re
import ssl
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.sax.saxutils import escape

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

AWS = Credentials(
    os.environ["ORIGIN_KEY_ID"], os.environ["ORIGIN_SECRET_KEY"], os.environ["ORIGIN_SESSION_TOKEN"]
)
AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, "
    r"SignedHeaders=([^,]+), Signature=([0-9a-f]{64})"
)
objects = {}
items = {}
nonces = set()
printing = threading.Lock()


class Refused(Exception):
    pass


def need(true, why):
    if not true:
        raise Refused(why)


def the(headers, name):
    values = headers.get_all(name) or []
    need(len(values) == 1, f"{name} is there {len(values)} times")
    return values[0]


def check_aws(request, body):
    """The service and region that the signature is made out to."""
    headers, host = request.headers, the(request.headers, "host")
    match = AUTHORIZATION.fullmatch(the(headers, "authorization"))
    need(match, "the Authorization line has another shape")
    key_id, day, region, service, names, signature = match.groups()
    need(key_id == AWS.access_key, "another key")
    need(the(headers, "x-amz-security-token") == AWS.token, "another session token")
    stamp = the(headers, "x-amz-date")
    at = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    age = datetime.datetime.now(datetime.timezone.utc) - at
    need(abs(age.total_seconds()) < 60 and stamp.startswith(day), "not signed just now")
    need("X-Amz-Signature" not in request.path, "signed twice")
    names = names.split(";")
    for name in headers.keys():
        must = name.lower().startswith("x-amz-") or name.lower() == "host"
        need(not must or name.lower() in names, f"{name} is not signed")
    signed = {name: ",".join(headers.get_all(name)) for name in names}
    again = AWSRequest(request.command, f"https://{host}{request.path}", signed, body)
    again.context["timestamp"] = stamp
    signer = (S3SigV4Auth if service == "s3" else SigV4Auth)(AWS, service, region)
    canonical = signer.canonical_request(again)
    expected = signer.signature(signer.string_to_sign(again, canonical), again)
    need(hmac.compare_digest(expected, signature), f"SignatureDoesNotMatch:\n{canonical}")
    said = headers.get("x-amz-content-sha256")
    if said and len(said) == 64:
        need(hashlib.sha256(body).hexdigest() == said, "another body was signed")
    return service, region


def quoted(text):
    return urllib.parse.quote(text, safe="-._~")


def check_oauth1(request, body):
    """RFC 5849 §3.4, once more."""
    scheme, _, rest = the(request.headers, "authorization").partition(" ")
    need(scheme == "OAuth", "another scheme")
    own = dict(re.findall(r'(\w+)="([^"]*)"', rest))
    own = {name: urllib.parse.unquote(value) for name, value in own.items()}
    signature = own.pop("oauth_signature")
    own.pop("realm", None)
    need(own["oauth_consumer_key"] == AWS.access_key, "another consumer")
    need(abs(int(own["oauth_timestamp"]) - datetime.datetime.now().timestamp()) < 60, "old")
    need(own["oauth_nonce"] not in nonces, "the nonce was used before")
    nonces.add(own["oauth_nonce"])
    url = urllib.parse.urlsplit(f"https://{the(request.headers, 'host')}{request.path}")
    params = list(own.items()) + urllib.parse.parse_qsl(url.query, keep_blank_values=True)
    if request.headers.get("content-type") == "application/x-www-form-urlencoded":
        params += urllib.parse.parse_qsl(body.decode(), keep_blank_values=True)
    pairs = "&".join(f"{n}={v}" for n, v in sorted((quoted(n), quoted(v)) for n, v in params))
    base = "&".join(map(quoted, [request.command, f"https://{url.netloc}{url.path}", pairs]))
    key = f"{quoted(AWS.secret_key)}&{quoted(AWS.token)}".encode()
    digest = hashlib.sha1 if own["oauth_signature_method"] == "HMAC-SHA1" else hashlib.sha256
    expected = base64.b64encode(hmac.new(key, base.encode(), digest).digest()).decode()
    need(hmac.compare_digest(expected, signature), f"wrong signature of\n{base}")
    return "oauth1", own["oauth_signature_method"]


def check_hmac(request, body):
    time = the(request.headers, "x-time")
    need(abs(int(time) / 1000 - datetime.datetime.now().timestamp()) < 60, "old")
    text = f"{time}{request.command}{request.path}{body.decode()}"
    tag = hmac.new(AWS.secret_key.encode(), text.encode(), hashlib.sha256).hexdigest()
    need(the(request.headers, "x-sign") == f"v1={tag}", "wrong signature")
    return "hmac", "sha256"


def check_body(request, body):
    text, kind = body.decode(), request.headers.get("content-type")
    need(the(request.headers, "content-length") == str(len(body)), "another length")
    if kind == "application/json":
        tokens = [value for name, value in json.loads(text, object_pairs_hook=list) if name == "token"]
    else:
        tokens = urllib.parse.parse_qs(text)["token"]
    need(tokens == [AWS.secret_key], "the key is not there, or not alone")
    return "body", kind


def unchunked(body):
    """What is in aws-chunked."""
    out, at = b"", 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end].split(b";")[0], 16)
        if size == 0:
            return out
        out += body[end + 2 : end + 2 + size]
        at = end + 2 + size + 2


def s3(request, body, host):
    bucket = host.split(".s3.")[0] if ".s3." in host else None
    path = urllib.parse.unquote(urllib.parse.urlsplit(request.path).path)
    name = path if bucket is None else f"/{bucket}{path}"
    if request.command == "PUT":
        if (request.headers.get("x-amz-content-sha256") or "").startswith("STREAMING-"):
            body = unchunked(body)
        objects[name] = body
        return 200, "application/xml", b""
    if name in objects:
        return 200, "application/octet-stream", objects[name]
    keys = sorted(key[len(name) :] for key in objects if key.startswith(name))
    listed = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in keys)
    namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
    text = f'<ListBucketResult xmlns="{namespace}">{listed}</ListBucketResult>'
    return 200, "application/xml", text.encode()


def sts(_request, _body, _host):
    return 200, "text/xml", b"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/flow</Arn><UserId>AIDA</UserId>
<Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"""


def iam(_request, _body, _host):
    return 200, "text/xml", b"""<ListUsersResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">
<ListUsersResult><IsTruncated>false</IsTruncated><Users/></ListUsersResult></ListUsersResponse>"""


def dynamodb(request, body, _host):
    asked, target = json.loads(body), request.headers["x-amz-target"]
    if target.endswith("PutItem"):
        items[asked["Item"]["id"]["S"]] = asked["Item"]
        return 200, "application/x-amz-json-1.0", b"{}"
    found = {"Item": items[asked["Key"]["id"]["S"]]}
    return 200, "application/x-amz-json-1.0", json.dumps(found).encode()


def echo(request, _body, _host):
    seen = {name: value for name, value in request.headers.items()}
    return 200, "application/json", json.dumps(seen).encode()


def told(_request, body, _host):
    return 200, "text/plain", body.replace(AWS.secret_key.encode(), b"KEY")


CHECKS = {
    "api.oauth.test": check_oauth1,
    "api.body.test": check_body,
    "api.hmac.test": check_hmac,
}
SERVICES = {"oauth1": told, "body": told, "hmac": told, "s3": s3, "sts": sts, "iam": iam, "dynamodb": dynamodb, "execute-api": echo}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            out = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                out += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return out
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def answer(self):
        body, host = self.body(), self.headers.get("host", "")
        scope = None
        try:
            lines = str(self.headers) + self.path
            need("DUMMY" not in lines and "dummy" not in lines, "the caller's own key is there")
            scope = CHECKS.get(host, check_aws)(self, body)
            status, media_type, out = SERVICES[scope[0]](self, body, host)
        except Refused as error:
            status, media_type, out = 403, "text/plain", str(error).encode()
        with printing:
            seen = dict(host=host, method=self.command, path=self.path, scope=scope, status=status)
            if status == 403:
                seen["why"] = out.decode()
            print(json.dumps(seen), flush=True)
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(out)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer


def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print(server.server_address[1], flush=True)
    server.serve_forever()


main()
