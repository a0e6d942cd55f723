"""AWS's own SDK with made-up keys, through the proxy. Prints what each call brought."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile

import boto3
import requests
from botocore.config import Config

REGION = "eu-central-1"
KEY = "reports/ä b+c(1)&d=e.txt"
session = boto3.Session(
    aws_access_key_id="AKIADUMMYDUMMYDUMMY1",
    aws_secret_access_key="dummy",
    aws_session_token="dummy",
    region_name=REGION,
)


def client(service, **config):
    return session.client(service, config=Config(retries={"max_attempts": 1}, **config))


def say(what, value):
    print(json.dumps([what, value]), flush=True)


say("sts", client("sts").get_caller_identity()["Arn"])
say("iam", client("iam").list_users()["Users"])

s3 = client("s3")
s3.put_object(Bucket="bucket", Key=KEY, Body=b"hello", Metadata={"note": "a  b"})
say("get", s3.get_object(Bucket="bucket", Key=KEY)["Body"].read().decode())
large = bytes(range(256)) * 20_000
s3.upload_fileobj(io.BytesIO(large), "bucket", "large")
say("streamed", s3.get_object(Bucket="bucket", Key="large")["Body"].read() == large)
by_path = client("s3", s3={"addressing_style": "path", "payload_signing_enabled": True})
by_path.put_object(Bucket="bucket", Key="signed", Body=b"hashed")
say("hashed", by_path.get_object(Bucket="bucket", Key="signed")["Body"].read().decode())
listed = s3.list_objects_v2(Bucket="bucket", Prefix="", Delimiter="/")
say("list", [entry["Key"] for entry in listed["Contents"]])

table = client("dynamodb")
table.put_item(TableName="t", Item={"id": {"S": "1"}, "text": {"S": "ü" * 1000}})
found = table.get_item(TableName="t", Key={"id": {"S": "1"}})
say("dynamodb", len(found["Item"]["text"]["S"]))

url = s3.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": KEY})
say("presigned", requests.get(url).text)

echo = requests.get(f"https://a1b2c3.execute-api.{REGION}.amazonaws.com/prod/x?b=2&a=%20").json()
fields = {name.lower(): value for name, value in echo.items()}
say("echo", [fields["authorization"], fields["x-amz-security-token"]])

with tempfile.NamedTemporaryFile() as file:
    file.write(bytes((16 << 20) + 1))
    file.flush()
    # It waits for 100 before it sends so much, and so hears the answer.
    words = ["curl", "-sS", "--cacert", os.environ["REQUESTS_CA_BUNDLE"], "--data-binary"]
    words += [f"@{file.name}", f"https://dynamodb.{REGION}.amazonaws.com/"]
    too_large = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
say("413", [too_large["status"], too_large["detail"]])
chunks = {"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}
refused = requests.put(f"https://bucket.s3.{REGION}.amazonaws.com/k", data=b"x", headers=chunks)
say("chunks", [refused.status_code, refused.json()["detail"]])
lied = {"x-amz-content-sha256": hashlib.sha256(b"other").hexdigest()}
lie = requests.put(f"https://bucket.s3.{REGION}.amazonaws.com/k", data=b"x", headers=lied)
say("lie", [lie.status_code, lie.text])
balancer = requests.get(f"https://front-1.elb.{REGION}.amazonaws.com/")
say("balancer", [balancer.status_code, balancer.text.split(" ")[0]])
stranger = {"https": sys.argv[1]}
bare = requests.get(f"https://bucket.s3.{REGION}.amazonaws.com/large", proxies=stranger)
say("stranger", [bare.status_code, bare.text])
