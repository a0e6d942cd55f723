//! AWS's own examples: the `aws-sig-v4-test-suite`, and those of the S3 API Reference.

use std::time::{Duration, UNIX_EPOCH};

use http::Method;

use super::*;
use crate::host::Host;
use crate::inject::Template;

const SUITE_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// 2015-08-30T12:36:00Z.
const SUITE_TIME: u64 = 1_440_938_160;
const S3_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// 2013-05-24T00:00:00Z.
const S3_TIME: u64 = 1_369_353_600;

fn aws(id: &str, key: &str, token: Option<&str>, place: Option<(&str, &str)>) -> Aws {
    let template = |text: &str| Template::parse(text).expect(text);
    let spec = AwsSigV4 {
        access_key_id: template("{id}"),
        secret_access_key: template("{key}"),
        session_token: Some(template("{token}")),
        service: Some(template("{service}")),
        region: Some(template("{region}")),
    };
    let values = [
        ("id", Some(id)),
        ("key", Some(key)),
        ("token", token),
        ("service", place.map(|(service, _)| service)),
        ("region", place.map(|(_, region)| region)),
    ];
    let values = values
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), Secret::from(value?.to_owned()))));
    Aws::new(&spec, &values.collect()).expect("values that can be sent")
}

struct Request {
    method: Method,
    host: Host,
    headers: HeaderMap,
    target: PathAndQuery,
    secure: bool,
}

impl Request {
    fn new(method: &str, host: &str, target: &str, fields: &[(&str, &str)]) -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in [("host", host)].iter().chain(fields) {
            let name: HeaderName = name.parse().expect("a name");
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        Self {
            method: method.parse().expect("a method"),
            host: host.parse().expect("a host"),
            headers,
            target: target.parse().expect("a target"),
            secure: true,
        }
    }

    fn head(&mut self) -> Head<'_> {
        Head {
            method: &self.method,
            host: &self.host,
            headers: &mut self.headers,
            target: &mut self.target,
            secure: self.secure,
        }
    }

    fn sign(&mut self, aws: &Aws, body: &str, at: u64) -> Result<String, Error> {
        let now = UNIX_EPOCH + Duration::from_secs(at);
        aws.sign(&mut self.head(), body.as_bytes(), now).map(|secret| secret.expose().to_owned())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }
}

/// As the suite does, with every field of the request signed.
fn suite_signature(request: &mut Request, token: Option<&str>, body: &str) -> String {
    let aws = aws("AKIDEXAMPLE", SUITE_KEY, token, None);
    let scope = Scope { service: "service", region: "us-east-1" };
    let stamp = stamp(UNIX_EPOCH + Duration::from_secs(SUITE_TIME));
    let mut head = request.head();
    aws.prepare_head(&mut head, &stamp).expect("a good target");
    let signed = signed_names(head.headers, |_| true);
    let hash = hex(sha256(body.as_bytes()).as_ref());
    let canonical = canonical_request(&head, &scope, &signed, hash.as_bytes());
    aws.authorization(&scope, &stamp, &signed, &canonical).1.expose().to_owned()
}

#[test]
fn requests_are_signed_as_in_aws_own_test_suite() {
    type Fields = &'static [(&'static str, &'static str)];
    const FORM: &str = "application/x-www-form-urlencoded";
    let cases: [(&str, &str, Fields, &str, &str); 15] = [
        ("GET", "/", &[], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            "GET",
            "/?Param2=value2&Param1=value1",
            &[],
            "",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "GET",
            "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            &[],
            "",
            "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
        ),
        ("GET", "/ሴ", &[], "", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        (
            "GET",
            "/?%E1%88%B4=bar",
            &[],
            "",
            "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
        ),
        (
            "GET",
            "/example/..",
            &[],
            "",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        ("GET", "//", &[], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("GET", "/./", &[], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            "GET",
            "/",
            &[("My-Header1", "value2"), ("My-Header1", "value2"), ("My-Header1", "value1")],
            "",
            "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
        ),
        (
            "GET",
            "/",
            &[("My-Header1", " value1"), ("My-Header2", " \"a   b   c\"")],
            "",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        ("POST", "/", &[], "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "POST",
            "/?Param1=value1",
            &[],
            "",
            "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
        ),
        (
            "POST",
            "/",
            &[("My-Header1", "VALUE1")],
            "",
            "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
        ),
        (
            "POST",
            "/",
            &[("Content-Type", FORM)],
            "Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
        (
            "POST",
            "/",
            &[("Content-Type", "application/x-www-form-urlencoded; charset=utf8")],
            "Param1=value1",
            "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe",
        ),
    ];
    for (method, target, fields, body, signature) in cases {
        let mut request = Request::new(method, "example.amazonaws.com", target, fields);
        let what = format!("{method} {target} {fields:?}");
        assert_eq!(suite_signature(&mut request, None, body), signature, "{what}");
    }
    let token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
    let mut request = Request::new("GET", "example.amazonaws.com", "/", &[]);
    assert_eq!(
        suite_signature(&mut request, Some(token), ""),
        "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"
    );
    assert_eq!(canonical_path("/example space/", false), "/example%20space/");
}

#[test]
fn requests_to_s3_are_signed_as_its_reference_shows() {
    let aws = aws("AKIAIOSFODNN7EXAMPLE", S3_KEY, None, None);
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for (target, signature) in [
        ("/?lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "/?max-keys=2&prefix=J",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ] {
        let fields = [("x-amz-content-sha256", empty)];
        let mut request = Request::new("GET", "examplebucket.s3.amazonaws.com", target, &fields);
        assert_eq!(request.sign(&aws, "", S3_TIME).as_deref(), Ok(signature), "{target}");
        assert_eq!(
            request.text("authorization"),
            Some(
                format!(
                    "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/\
                     aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date, \
                     Signature={signature}"
                )
                .as_str()
            )
        );
    }
}

#[test]
fn what_the_caller_signed_with_is_replaced() {
    let aws = aws("AKIDREAL", SUITE_KEY, Some("real-session-token"), None);
    let fields = [
        ("authorization", "AWS4-HMAC-SHA256 Credential=DUMMY/20260101/us-west-2/iam/aws4_request"),
        ("x-amz-date", "20260101T000000Z"),
        ("x-amz-security-token", "dummy"),
        ("x_amz_security_token", "dummy"),
        ("x-amz-region-set", "*"),
    ];
    let target = "/k?a=%2F&X-Amz-Algorithm=AWS4&x-amz-credential=D&X-Amz-Date=1&X-Amz-Expires=9\
                  &X-Amz-SignedHeaders=host&X%2DAmz-Signature=00&X-Amz-Security-Token=t&b=%20";
    let mut request = Request::new("GET", "b.s3.eu-west-1.amazonaws.com", target, &fields);
    let signature = request.sign(&aws, "", SUITE_TIME).expect("it can be signed");
    assert_eq!(request.target.as_str(), "/k?a=%2F&b=%20");
    assert_eq!(request.text("x-amz-date"), Some("20150830T123600Z"));
    assert_eq!(request.text("x-amz-security-token"), Some("real-session-token"));
    assert_eq!(request.text("x-amz-content-sha256"), Some("UNSIGNED-PAYLOAD"));
    for gone in ["x_amz_security_token", "x-amz-region-set"] {
        assert_eq!(request.text(gone), None);
    }
    let line = request.text("authorization").expect("it is signed").to_owned();
    assert!(line.contains("Credential=AKIDREAL/20150830/eu-west-1/s3/aws4_request"), "{line}");
    assert!(line.ends_with(&format!(
        "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, \
         Signature={signature}"
    )));
    assert!(request.headers["authorization"].is_sensitive());
    assert!(!line.contains(SUITE_KEY));

    let all = "/?X-Amz-Signature=00&X-Amz-Date=1";
    let mut request = Request::new("GET", "sts.amazonaws.com", all, &[]);
    request.sign(&aws, "", SUITE_TIME).expect("it can be signed");
    assert_eq!(request.target.as_str(), "/");
}

#[test]
fn the_caller_says_the_region_of_a_bucket_whose_host_says_none_and_nothing_else() {
    let aws = aws("AKID", SUITE_KEY, None, None);
    let line = "AWS4-HMAC-SHA256 Credential=D/20260101/eu-west-3/sts/aws4_request, Signature=0";
    let presigned = "/k?X-Amz-Credential=D%2F20260101%2Feu-west-3%2Fsts%2Faws4_request";
    for (host, target, fields, scope) in [
        ("b.s3.amazonaws.com", "/k", &[("authorization", line)][..], "eu-west-3/s3"),
        ("b.s3.amazonaws.com", presigned, &[], "eu-west-3/s3"),
        ("b.s3-accelerate.amazonaws.com", presigned, &[], "eu-west-3/s3"),
        ("b.s3.amazonaws.com", "/k?X-Amz-Credential=D/1/evil/s3/x", &[], "us-east-1/s3"),
        ("b.s3.amazonaws.com", "/k", &[], "us-east-1/s3"),
        ("b.s3.eu-west-1.amazonaws.com", "/k", &[("authorization", line)], "eu-west-1/s3"),
        ("s3.amazonaws.com", "/k", &[("authorization", line)], "us-east-1/s3"),
        ("iam.amazonaws.com", "/", &[("authorization", line)], "us-east-1/iam"),
        (
            "a.execute-api.eu-west-1.amazonaws.com",
            "/",
            &[("authorization", line)],
            "eu-west-1/execute-api",
        ),
    ] {
        let mut request = Request::new("GET", host, target, fields);
        request.sign(&aws, "", SUITE_TIME).expect("it can be signed");
        let line = request.text("authorization").expect("it is signed");
        assert!(line.contains(&format!("/20150830/{scope}/aws4_request")), "{host}: {line}");
    }
}

#[test]
fn the_body_is_needed_only_where_nothing_else_speaks_of_it() {
    const HASH: &str = "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e";
    let aws = aws("AKID", SUITE_KEY, None, None);
    let (s3, other) = ("s3.eu-west-1.amazonaws.com", "sqs.eu-west-1.amazonaws.com");
    for (host, secure, said, expected) in [
        (s3, true, None, Ok(false)),
        (s3, false, None, Ok(true)),
        (other, true, None, Ok(true)),
        (other, true, Some(HASH), Ok(false)),
        (other, false, Some(HASH), Ok(false)),
        (other, true, Some("UNSIGNED-PAYLOAD"), Ok(false)),
        (s3, false, Some("UNSIGNED-PAYLOAD"), Err(Error::PayloadHash)),
        (s3, true, Some("STREAMING-UNSIGNED-PAYLOAD-TRAILER"), Ok(false)),
        (s3, true, Some("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"), Err(Error::SignedChunks)),
        (s3, true, Some("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"), Err(Error::SignedChunks)),
        (s3, true, Some("STREAMING-AWS4-HMAC-SHA256-EVENTS"), Err(Error::SignedChunks)),
        (s3, true, Some("required"), Err(Error::PayloadHash)),
        (s3, true, Some(&HASH.to_uppercase()), Err(Error::PayloadHash)),
    ] {
        let fields: Vec<_> = said.iter().map(|said| ("x-amz-content-sha256", *said)).collect();
        let mut request = Request::new("PUT", host, "/", &fields);
        request.secure = secure;
        assert_eq!(aws.needs_body(&request.head()), expected, "{host} {secure} {said:?}");
    }
    let twice = [("x-amz-content-sha256", HASH), ("x-amz-content-sha256", "UNSIGNED-PAYLOAD")];
    let mut request = Request::new("PUT", s3, "/", &twice);
    assert!(matches!(request.sign(&aws, "", SUITE_TIME), Err(Error::Repeated(_))));
}

#[test]
fn only_names_of_aws_or_an_account_that_says_so_give_a_scope() {
    let unsaid = aws("AKID", SUITE_KEY, None, None);
    let mut request = Request::new("GET", "minio.acme.example", "/", &[]);
    assert_eq!(request.sign(&unsaid, "", SUITE_TIME), Err(Error::UnknownService));
    let said = aws("AKID", SUITE_KEY, None, Some(("s3", "auto")));
    request.sign(&said, "", SUITE_TIME).expect("the account says where");
    let line = request.text("authorization").expect("it is signed");
    assert!(line.contains("/20150830/auto/s3/aws4_request"), "{line}");
}

#[test]
fn an_object_keeps_its_name() {
    for (sent, signed) in [
        ("/a%2Fb/c", "/a%2Fb/c"),
        ("/a//b/../c", "/a//b/../c"),
        ("/a(b)!", "/a%28b%29%21"),
        ("/test$file.text", "/test%24file.text"),
        ("/%e2%82%ac", "/%E2%82%AC"),
        ("/a+b", "/a%2Bb"),
    ] {
        assert_eq!(canonical_path(sent, true), signed);
    }
    assert_eq!(canonical_path("/a%2Fb/c", false), "/a%252Fb/c", "encoded once more");
    assert_eq!(canonical_query("c+d&b=2&a&b=1&=x"), "=x&a=&b=1&b=2&c%2Bd=");
}

#[test]
fn values_that_cannot_be_sent_are_refused_when_they_are_configured() {
    let spec = AwsSigV4 {
        access_key_id: Template::parse("{id}").expect("a template"),
        secret_access_key: Template::parse("key").expect("a template"),
        session_token: None,
        service: None,
        region: Some(Template::parse("{region}").expect("a template")),
    };
    for (id, region) in [("AKID\r\nX: y", "a"), ("AKID", "a\nb")] {
        let values = [("id", id), ("region", region)];
        let values = values.map(|(name, value)| (name.to_owned(), Secret::from(value.to_owned())));
        assert!(Aws::new(&spec, &values.into_iter().collect()).is_err());
    }
}
