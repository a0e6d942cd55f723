//! A template as an answer, with the headers that every page has.

use askama::Template;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};

use crate::forward::Body;

/// What a page may do beyond showing itself, scripts and styles of ours.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Where its forms may lead beside here, as CSP sources. A redirect after a form counts, too.
    pub forms: Vec<String>,
    /// Origins whose pages may frame it.
    pub framed_by: Vec<String>,
    /// Origins whose images it shows.
    pub images: Vec<String>,
    /// It opens a window and hears from it.
    pub opens_windows: bool,
    /// Its forms tell this server where they come from; without it browsers hide that from us, too.
    pub tells_origin: bool,
}

impl Policy {
    fn content_security_policy(&self) -> String {
        let more = |sources: &[String]| -> String {
            sources.iter().flat_map(|source| [" ", source.as_str()]).collect()
        };
        let framed =
            if self.framed_by.is_empty() { " 'none'".into() } else { more(&self.framed_by) };
        format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:{}; \
             connect-src 'self'; form-action 'self'{}; frame-ancestors{framed}; base-uri 'none'",
            more(&self.images),
            more(&self.forms)
        )
    }

    fn apply(&self, headers: &mut HeaderMap) {
        let opener = if self.opens_windows { "same-origin-allow-popups" } else { "same-origin" };
        let referrer = if self.tells_origin { "same-origin" } else { "no-referrer" };
        let fixed = [
            (CONTENT_TYPE, "text/html; charset=utf-8"),
            (CACHE_CONTROL, "no-store"),
            (REFERRER_POLICY, referrer),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (HeaderName::from_static("cross-origin-opener-policy"), opener),
        ];
        for (name, value) in fixed {
            headers.insert(name, HeaderValue::from_static(value));
        }
        // What cannot stand in a header must not loosen the policy: then nothing is allowed.
        let policy = HeaderValue::from_str(&self.content_security_policy())
            .unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
}

pub fn page(status: StatusCode, template: &impl Template, policy: &Policy) -> Response<Body> {
    let Ok(text) = template.render() else {
        let mut response = Response::new(Body::from("the page could not be written\n".to_owned()));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return response;
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    policy.apply(response.headers_mut());
    response
}

/// A page of one heading and one sentence, perhaps with a button.
#[derive(Template)]
#[template(path = "message.html")]
pub struct Message<'a> {
    pub title: &'a str,
    pub text: &'a str,
    pub button: Option<Button<'a>>,
    /// Takes what the address carries out of the history.
    pub clean_address: bool,
}

/// A form that leads to `action` with one value.
pub struct Button<'a> {
    pub action: &'a str,
    pub name: &'a str,
    pub value: &'a str,
    pub label: &'a str,
}

impl Message<'_> {
    pub fn answer(&self, status: StatusCode, policy: &Policy) -> Response<Body> {
        page(status, self, policy)
    }
}

/// A letter and one of twelve hues for an app: `hue-0` to `hue-11` in the style sheet.
pub fn monogram(name: &str) -> (String, u8) {
    let letter = name.chars().find(|c| c.is_alphanumeric()).unwrap_or('?');
    let sum = name.bytes().fold(7u32, |sum, byte| sum.wrapping_mul(31) ^ u32::from(byte));
    (letter.to_string(), (sum % 12) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Template)]
    #[template(source = "{{ text }}", ext = "html")]
    struct Said {
        text: &'static str,
    }

    #[test]
    fn a_page_allows_only_what_it_names() {
        let said = Said { text: "<script>" };
        let plain = page(StatusCode::OK, &said, &Policy::default());
        let policy = plain.headers()[CONTENT_SECURITY_POLICY].to_str().expect("text");
        assert!(
            policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        let framed =
            Policy { framed_by: vec!["https://shop.example".to_owned()], ..Policy::default() };
        let framed = page(StatusCode::OK, &said, &framed);
        let policy = framed.headers()[CONTENT_SECURITY_POLICY].to_str().expect("text");
        assert!(policy.contains("frame-ancestors https://shop.example;"), "{policy}");
        assert_eq!(said.render().expect("text"), "&#60;script&#62;");
    }

    #[test]
    fn a_source_that_cannot_stand_in_a_header_closes_the_page() {
        let policy = Policy { images: vec!["https://x\n".to_owned()], ..Policy::default() };
        let response = page(StatusCode::OK, &Said { text: "" }, &policy);
        let policy = &response.headers()[CONTENT_SECURITY_POLICY];
        assert_eq!(policy, "default-src 'none'; frame-ancestors 'none'");
    }
}
