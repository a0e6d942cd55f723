use proptest::prelude::*;

use super::*;

fn rows(rows: &[Row]) -> Vec<(&str, &str)> {
    rows.iter().map(|row| (&*row.name, &*row.value)).collect()
}

#[test]
fn commands_as_people_paste_them_are_read() {
    for (command, method, url) in [
        ("curl https://a.test/x", "GET", "https://a.test/x"),
        ("$ curl a.test", "GET", "https://a.test"),
        ("  curl -sSL 'https://a.test/x?a=1&b=2#frag'", "GET", "https://a.test/x?a=1&b=2"),
        ("curl https://a.test/x?a=1&b=2", "GET", "https://a.test/x?a=1&b=2"),
        ("/usr/bin/curl -X delete https://a.test/1", "DELETE", "https://a.test/1"),
        ("curl -XPATCH \\\n  --url \"https://a.test/\\$1\"", "PATCH", "https://a.test/$1"),
        ("curl -I https://a.test | head -1", "HEAD", "https://a.test"),
        ("curl https://a.test -o out.json --max-time 5 -k; echo", "GET", "https://a.test"),
        ("curl -d a=1 https://a.test", "POST", "https://a.test"),
        ("curl -G -d a=1 --data-urlencode 'q=x y' a.test/s", "GET", "https://a.test/s?a=1&q=x+y"),
        ("curl -X PUT --json '{}' https://a.test", "PUT", "https://a.test"),
        ("curl $'https://a.test/\\u00e9\\x21\\ud83d\\ude00'", "GET", "https://a.test/é!😀"),
        ("curl a.test b.test", "GET", "https://a.test"),
    ] {
        let read = parse(command).expect(command);
        assert_eq!((&*read.method, &*read.url), (method, url), "{command}");
    }
}

#[test]
fn bodies_are_what_their_type_says_or_looks_like() {
    let json = "-H 'Content-Type: application/json'";
    for (options, kind, body) in [
        ("", BodyKind::None, ""),
        ("--json '{\"a\": \"it'\\''s\"}'", BodyKind::Json, "{\"a\": \"it's\"}"),
        (&*format!("{json} -d '{{\"a\":1}}'"), BodyKind::Json, "{\"a\":1}"),
        ("--data-raw '{\"a\":1}'", BodyKind::Json, "{\"a\":1}"),
        ("-H 'content-type: text/xml' -d '<a/>'", BodyKind::Text, "<a/>"),
        ("-d a=1 -d 'b=x%20y'", BodyKind::Form, ""),
    ] {
        let read = parse(&format!("curl {options} https://a.test")).expect(options);
        assert_eq!((read.kind, &*read.body), (kind, body), "{options}");
    }
    let read = parse("curl -d a=1 -d 'b=x%20y' --data-urlencode 'c=1&2' a.test").expect("a form");
    assert_eq!(rows(&read.form), [("a", "1"), ("b", "x y"), ("c", "1&2")]);
    let read = parse("curl --json '{}' -H 'Accept: text/html' a.test").expect("JSON");
    assert_eq!(rows(&read.headers), [("Accept", "text/html")]);
    let read = parse(&format!("curl {json} -d '{{}}' a.test")).expect("JSON");
    assert!(read.headers.is_empty(), "the kind of body says it: {:?}", read.headers);
}

#[test]
fn what_proves_somebodys_identity_is_left_out_and_told() {
    let command = "curl -u ann:hunter2 -b 'session=hunter2' \
        -H 'Authorization: Bearer hunter2' -H 'X-API-Key: hunter2' -H 'Cookie: a=hunter2' \
        -H 'PRIVATE-TOKEN: hunter2' -H 'Notion-Version: 2022-06-28' --oauth2-bearer hunter2 \
        -d 'client_secret=hunter2' -d 'text=hi' \
        'https://ann:hunter2@a.test/x?access_token=hunter2&page=2&api_key=hunter2'";
    let read = parse(command).expect("a command");
    assert!(!format!("{read:?}").contains("hunter2"), "{read:?}");
    assert_eq!(rows(&read.headers), [("Notion-Version", "2022-06-28")]);
    assert_eq!((&*read.url, rows(&read.form)), ("https://a.test/x?page=2", vec![("text", "hi")]));
    for what in ["--user", "Authorization", "X-API-Key", "PRIVATE-TOKEN", "cookies", "api_key"] {
        assert!(read.notes.iter().any(|note| note.contains(what)), "{what}: {:?}", read.notes);
    }
}

#[test]
fn what_cannot_be_taken_along_is_told() {
    for (options, told) in [
        ("-d @body.json", "body.json"),
        ("-F file=@x.png", "Choose the files"),
        ("https://b.test", "first URL"),
    ] {
        let read = parse(&format!("curl https://a.test {options}")).expect(options);
        assert!(read.notes.iter().any(|note| note.contains(told)), "{options}: {:?}", read.notes);
    }
}

#[test]
fn what_is_no_whole_command_is_refused_with_what_to_do() {
    for (command, mistake) in [
        ("", Mistake::NotCurl),
        ("wget https://a.test", Mistake::NotCurl),
        ("curl", Mistake::NoUrl),
        ("curl -s", Mistake::NoUrl),
        ("curl 'https://a.test", Mistake::Unclosed),
        ("curl \"https://a.test\\", Mistake::Unclosed),
        ("curl https://a.test -H", Mistake::NoValue("--header".to_owned())),
    ] {
        assert_eq!(parse(command), Err(mistake), "{command}");
    }
    assert_eq!(parse(&format!("curl {}", "x".repeat(MAX_BYTES))), Err(Mistake::TooLong));
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(text in r#"(curl )?([-a-zA-Z'"\\$@:/?&=;|{}\n ]|\PC){0,120}"#) {
        let _ = parse(&text);
    }

    #[test]
    fn what_is_quoted_comes_out_as_it_was(
        path in "[^\\x00?#@]{0,40}", name in "[A-Za-z][A-Za-z-]{0,12}", body in "[^\\x00]{1,60}",
    ) {
        prop_assume!(!is_credential(&name));
        prop_assume!(!CONNECTION.contains(&&*name.to_lowercase()));
        prop_assume!(!name.to_lowercase().starts_with("sec-"));
        prop_assume!(!name.eq_ignore_ascii_case("accept-encoding"));
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
        let command = format!(
            "curl {} -H {} -H 'Content-Type: text/plain+x' --data-raw {}",
            quoted(&format!("https://a.test/{path}")),
            quoted(&format!("{name}: v'1")),
            quoted(&body),
        );
        let read = parse(&command).expect("a command");
        prop_assert_eq!(&read.url, &format!("https://a.test/{path}"));
        prop_assert_eq!(&read.body, &body);
        prop_assert_eq!(&read.headers[0], &Row::new(&name, "v'1"));
    }
}
