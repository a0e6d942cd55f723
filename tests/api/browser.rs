//! A browser as far as the pages can tell: it keeps cookies, says where its forms come from, and
//! follows nothing by itself.

use std::collections::BTreeMap;

use http::Request;
use http_body_util::Full;
use parking_lot::Mutex;
use url::form_urlencoded;

use crate::site::{Answer, Site};

#[derive(Default)]
pub struct Browser {
    cookie: Mutex<Option<String>>,
}

impl Browser {
    pub async fn get(&self, site: &Site, address: &str) -> Answer {
        self.send(site, self.request("GET", &site.url(address)), String::new()).await
    }

    pub async fn post(&self, site: &Site, path: &str, form: &BTreeMap<String, String>) -> Answer {
        self.post_from(site, path, form, "same-origin").await
    }

    pub async fn post_from(
        &self,
        site: &Site,
        path: &str,
        form: &BTreeMap<String, String>,
        from: &str,
    ) -> Answer {
        let request = self.request("POST", &site.url(path));
        let request = request
            .header("content-type", "application/x-www-form-urlencoded")
            .header("sec-fetch-site", from);
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.send(site, request, body).await
    }

    fn request(&self, method: &str, url: &str) -> http::request::Builder {
        let request = Request::builder().method(method).uri(url);
        match &*self.cookie.lock() {
            Some(cookie) => request.header("cookie", cookie),
            None => request,
        }
    }

    async fn send(&self, site: &Site, request: http::request::Builder, body: String) -> Answer {
        let answer = site.send(request.body(Full::from(body)).unwrap()).await;
        if let Some(set) = answer.header("set-cookie") {
            let (pair, rest) = set.split_once(';').unwrap();
            assert!(rest.contains("HttpOnly") && rest.contains("SameSite=Lax"), "{set}");
            *self.cookie.lock() = Some(pair.to_owned());
        }
        answer
    }
}

/// Of the page's form: names and values of what is hidden.
pub fn hidden(page: &Answer) -> BTreeMap<String, String> {
    let text = text(page);
    let inputs = text.split("<input type=\"hidden\" ").skip(1);
    let pair = |input: &str| {
        let attribute = |name: &str| {
            let from = input.split_once(&format!("{name}=\""))?.1;
            Some(from.split_once('"')?.0.to_owned())
        };
        Some((attribute("name")?, attribute("value")?))
    };
    inputs.filter_map(pair).collect()
}

pub fn text(page: &Answer) -> String {
    String::from_utf8(page.body.to_vec()).unwrap()
}

pub fn heading(page: &Answer) -> String {
    let text = text(page);
    let from = text.split_once("<h1").expect(&text).1;
    let from = from.split_once('>').unwrap().1;
    from.split_once("</h1>").unwrap().0.to_owned()
}

/// Where a redirect leads: on this site as a path, elsewhere whole.
pub fn location(answer: &Answer) -> String {
    let to = answer.header("location").expect("a redirect").to_owned();
    let own =
        to.split_once("/connect/callback").map(|(_, query)| format!("/connect/callback{query}"));
    own.unwrap_or(to)
}
