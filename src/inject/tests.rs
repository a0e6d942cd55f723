use super::*;
use proptest::prelude::*;

fn values(pairs: &[(&str, &str)]) -> Properties {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), Secret::from((*v).to_owned()))).collect()
}

fn template(text: &str) -> Template {
    Template::parse(text).expect(text)
}

fn header(name: &'static str, value: &str) -> Attachment {
    Attachment::Header {
        name: HeaderName::from_static(name),
        value: template(value),
        optional: false,
    }
}

fn query(name: &str) -> Attachment {
    Attachment::Query { name: name.into(), value: template("{key}"), optional: false }
}

fn prepared(attachment: Attachment) -> Prepared {
    prepare(&[attachment], &values(&[("key", "k&y=1"), ("token", "12:ab")])).expect("valid")
}

fn attached(prepared: &Prepared, target: &str) -> String {
    let mut target = PathAndQuery::try_from(target).expect("a target");
    prepared.attach(&mut HeaderMap::new(), &mut target).expect("attaches");
    target.to_string()
}

#[test]
fn a_header_replaces_what_the_caller_sent_in_any_spelling() {
    let mut headers = HeaderMap::new();
    for name in ["x-api-key", "x_api_key", "x-api_key"] {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static("theirs"));
    }
    headers.append("x-api-key", HeaderValue::from_static("again"));
    headers.append("x-other", HeaderValue::from_static("kept"));
    let mut target = PathAndQuery::from_static("/");
    prepared(header("x-api-key", "{key}")).attach(&mut headers, &mut target).expect("attaches");
    assert_eq!(headers.len(), 2);
    assert_eq!(headers["x-api-key"], "k&y=1");
    assert!(headers["x-api-key"].is_sensitive());
}

#[test]
fn a_query_parameter_is_replaced_in_place_and_the_rest_is_kept_byte_for_byte() {
    let prepared = prepared(query("api_key"));
    for (before, after) in [
        ("/a", "/a?api_key=k%26y%3D1"),
        ("/a?b=%2f+c&&d", "/a?b=%2f+c&&d&api_key=k%26y%3D1"),
        ("/a?x=1&api_key=theirs&y=2", "/a?x=1&api_key=k%26y%3D1&y=2"),
        ("/a?api%5fkey=1&API_KEY=2&api_key", "/a?api_key=k%26y%3D1"),
    ] {
        assert_eq!(attached(&prepared, before), after);
    }
}

#[test]
fn a_path_segment_is_put_first_and_replaces_the_dummy() {
    let segment = |under: Option<&str>| Attachment::Path {
        segment: template("/bot{token}"),
        under: under.map(str::to_owned),
    };
    let both = prepare(&[segment(None), segment(Some("/file"))], &values(&[("token", "12:ab")]));
    let both = both.expect("valid");
    for (before, after) in [
        ("/getMe?a=1", "/bot12:ab/getMe?a=1"),
        ("/botDUMMY/getMe", "/bot12:ab/getMe"),
        ("/file/botDUMMY/photo.png", "/file/bot12:ab/photo.png"),
        ("/file/photo.png", "/file/bot12:ab/photo.png"),
        ("/bots", "/bot12:ab"),
        ("/filexyz", "/bot12:ab/filexyz"),
    ] {
        assert_eq!(attached(&both, before), after);
    }
}

#[test]
fn rules_see_the_path_without_the_dummy() {
    let segment = template("/bot{token}");
    for (path, under, seen) in [
        ("/botX:1/getMe", None, "/getMe"),
        ("/getMe", None, "/getMe"),
        ("/botX", None, "/"),
        ("/file/botX/a", Some("/file"), "/file/a"),
    ] {
        assert_eq!(strip_segment(path, &segment, under), seen, "{path}");
    }
}

#[test]
fn basic_takes_constants_and_empty_halves() {
    let basic = |username: &str, password: &str| {
        let attachment =
            Attachment::Basic { username: template(username), password: template(password) };
        prepare(&[attachment], &values(&[("key", "k"), ("user", "a:b")]))
    };
    let mut headers = HeaderMap::new();
    let mut target = PathAndQuery::from_static("/");
    basic("{key}", "").expect("valid").attach(&mut headers, &mut target).expect("attaches");
    assert_eq!(headers[AUTHORIZATION], "Basic azo=");
    assert_eq!(basic("{user}", "x").err(), Some(Error::ColonInUserName));
}

#[test]
fn a_cookie_is_set_and_the_others_are_kept() {
    let cookie = Attachment::Cookie { name: "sid".into(), value: template("{key}") };
    let mut headers = HeaderMap::new();
    headers.append(COOKIE, HeaderValue::from_static("a=1; sid=theirs"));
    headers.append(COOKIE, HeaderValue::from_static("SID=2;b=2"));
    let mut target = PathAndQuery::from_static("/");
    prepared(cookie).attach(&mut headers, &mut target).expect("attaches");
    assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; sid=k&y=1"]);
}

#[test]
fn companions_are_set_when_absent_or_always() {
    let companion = |name, when| Attachment::Static {
        name: HeaderName::from_static(name),
        value: HeaderValue::from_static("ours"),
        when,
    };
    let all = [companion("a", When::Absent), companion("b", When::Always)];
    let prepared = prepare(&all, &Properties::new()).expect("valid");
    let mut headers = HeaderMap::new();
    headers.insert("a", HeaderValue::from_static("theirs"));
    headers.insert("b", HeaderValue::from_static("theirs"));
    prepared.attach(&mut headers, &mut PathAndQuery::from_static("/")).expect("attaches");
    assert_eq!(
        (&headers["a"], &headers["b"]),
        (&"theirs".parse().unwrap(), &"ours".parse().unwrap())
    );
}

#[test]
fn values_that_could_split_a_head_are_refused_when_configured() {
    for bad in ["a\r\nX: y", "a\n", "a\0", "a\x7f", " a", "ä", &"a".repeat(9000)] {
        for attachment in
            [header("x", "{v}"), Attachment::Cookie { name: "c".into(), value: template("{v}") }]
        {
            assert!(prepare(&[attachment], &values(&[("v", bad)])).is_err(), "{bad:?}");
        }
    }
}

#[test]
fn an_optional_header_is_left_out_and_a_needed_one_is_an_error() {
    let optional = Attachment::Header {
        name: HeaderName::from_static("x"),
        value: template("{none}"),
        optional: true,
    };
    assert!(prepare(&[optional], &Properties::new()).is_ok());
    let missing = prepare(&[header("x", "{none}")], &Properties::new()).err();
    assert_eq!(missing, Some(Error::Template(TemplateError::Missing("none".into()))));
}

#[test]
fn an_echoed_credential_is_masked_in_headers() {
    let attachment = Attachment::Basic { username: template("{u}"), password: template("{p}") };
    let prepared = prepare(&[attachment], &values(&[("u", "ann"), ("p", "long-password")]));
    let mask = prepared.expect("valid").mask().clone();
    let mut headers = HeaderMap::new();
    headers.insert("x-echo", HeaderValue::from_static("p=long-password!"));
    headers.insert("x-basic", HeaderValue::from_static("Basic YW5uOmxvbmctcGFzc3dvcmQ="));
    headers.insert("x-short", HeaderValue::from_static("ann"));
    mask.headers(&mut headers);
    assert_eq!(headers["x-echo"], "p=[masked]!");
    assert_eq!(headers["x-basic"], "Basic [masked]");
    assert_eq!(headers["x-short"], "ann");
}

proptest! {
    #[test]
    fn attaching_twice_is_attaching_once(path in "(/[a-z%.]{0,8}){1,3}", q in "[a-z%5f_=&]{0,20}") {
        let Ok(target) = PathAndQuery::try_from(format!("{path}?{q}")) else { return Ok(()) };
        for attachment in [query("api_key"), Attachment::Path { segment: template("/bot{token}"), under: None }] {
            let prepared = prepared(attachment);
            let once = attached(&prepared, target.as_str());
            prop_assert_eq!(attached(&prepared, &once), once);
        }
    }
}
