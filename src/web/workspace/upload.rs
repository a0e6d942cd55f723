//! Forms that bring files (RFC 7578): read whole, bounded, and only for somebody who is logged in,
//! because what is read is held in memory.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use hyper::body::Incoming;
use multer::Multipart;
use url::form_urlencoded::Serializer;

use super::form::Form;
use crate::web::browser::{Unread, whole};

/// All files and fields of one form together.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(60);
const MAX_PARTS: usize = 500;
const MAX_FILE_NAME_CHARS: usize = 200;

/// A file that somebody chose. Where none was chosen, browsers send an empty one without a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upload {
    /// Of the form's field.
    pub field: String,
    pub file_name: String,
    pub media_type: String,
    pub bytes: Bytes,
}

impl Upload {
    pub fn is_chosen(&self) -> bool {
        !self.file_name.is_empty() || !self.bytes.is_empty()
    }
}

/// Whether a request says that it brings such a form.
pub fn is_one(headers: &HeaderMap) -> bool {
    boundary_of(headers).is_some()
}

fn boundary_of(headers: &HeaderMap) -> Option<String> {
    multer::parse_boundary(headers.get(CONTENT_TYPE)?.to_str().ok()?).ok()
}

/// Its fields, and its files in their order.
///
/// # Errors
/// When it is no such form, too long, or broken off.
pub async fn read(headers: &HeaderMap, body: Incoming) -> Result<(Form, Vec<Upload>), Unread> {
    let boundary = boundary_of(headers).ok_or(Unread::NotAForm)?;
    parse(whole(body, MAX_BYTES, PATIENCE).await?, boundary).await
}

async fn parse(body: Bytes, boundary: String) -> Result<(Form, Vec<Upload>), Unread> {
    let whole = futures_util::stream::once(async move { Ok::<_, Infallible>(body) });
    let mut parts = Multipart::new(whole, boundary);
    let (mut pairs, mut uploads): (Vec<(String, String)>, _) = (Vec::new(), Vec::new());
    for _ in 0..MAX_PARTS {
        let Some(part) = parts.next_field().await.map_err(|_| Unread::Broken)? else {
            let text = Serializer::new(String::new()).extend_pairs(pairs).finish();
            return Ok((Form::parse(text.as_bytes()), uploads));
        };
        let field = part.name().unwrap_or_default().to_owned();
        let Some(name) = part.file_name().map(base_name) else {
            let text = part.bytes().await.map_err(|_| Unread::Broken)?;
            let text = std::str::from_utf8(&text).map_err(|_| Unread::Broken)?;
            pairs.push((field, text.to_owned()));
            continue;
        };
        let media_type = part.content_type().map(ToString::to_string).unwrap_or_default();
        let bytes = part.bytes().await.map_err(|_| Unread::Broken)?;
        uploads.push(Upload { field, file_name: name, media_type, bytes });
    }
    Err(Unread::TooLong)
}

/// Some browsers once sent whole paths; nobody needs to know where a file lay.
fn base_name(name: &str) -> String {
    let base = name.rsplit(['/', '\\']).next().unwrap_or_default();
    base.chars().filter(|c| !c.is_control()).take(MAX_FILE_NAME_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn parsed(body: &str) -> Result<(Form, Vec<Upload>), Unread> {
        parse(Bytes::from(body.replace('\n', "\r\n")), "X".to_owned()).await
    }

    #[tokio::test]
    async fn fields_and_files_are_told_apart_and_a_path_is_cut_off() {
        let body = "--X\nContent-Disposition: form-data; name=\"a\"\n\nx&y=é\n--X\n\
            Content-Disposition: form-data; name=\"f\"; filename=\"C:\\\\dir\\\\r.pdf\"\n\
            Content-Type: application/pdf\n\n%PDF\n--X\n\
            Content-Disposition: form-data; name=\"f\"; filename=\"\"\n\
            Content-Type: application/octet-stream\n\n\n--X--\n";
        let (form, files) = parsed(body).await.expect("a form");
        assert_eq!(form.raw("a"), "x&y=é");
        assert_eq!(files.len(), 2);
        assert_eq!((&*files[0].file_name, &*files[0].media_type), ("r.pdf", "application/pdf"));
        assert_eq!(&files[0].bytes[..], b"%PDF");
        assert!(files[0].is_chosen() && !files[1].is_chosen());
    }

    #[tokio::test]
    async fn what_breaks_off_or_is_no_form_is_not_taken() {
        for body in ["", "--X\n", "--X\nContent-Disposition: form-data; name=\"a\"\n\nx", "junk"] {
            assert!(parsed(body).await.is_err(), "{body}");
        }
        let many = "--X\nContent-Disposition: form-data; name=\"a\"\n\nx\n".repeat(MAX_PARTS + 1);
        assert_eq!(parsed(&(many + "--X--\n")).await.err(), Some(Unread::TooLong));
    }
}
