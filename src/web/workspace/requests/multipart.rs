//! A body of fields and files (RFC 7578), as the builder sends it. Pure.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::secret::TokenDigest;

/// One part of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Field { name: String, value: String },
    File { name: String, file_name: String, media_type: String, bytes: Bytes },
}

impl Part {
    pub fn name(&self) -> &str {
        match self {
            Self::Field { name, .. } | Self::File { name, .. } => name,
        }
    }
}

/// The body, and the media type that says its boundary.
pub fn encode(parts: &[Part]) -> (Bytes, String) {
    let boundary = boundary(parts);
    let mut body = BytesMut::new();
    for part in parts {
        body.put_slice(format!("--{boundary}\r\n").as_bytes());
        let name = escaped(part.name());
        match part {
            Part::Field { value, .. } => {
                let head = format!("Content-Disposition: form-data; name=\"{name}\"\r\n\r\n");
                body.put_slice(head.as_bytes());
                body.put_slice(value.as_bytes());
            }
            Part::File { file_name, media_type, bytes, .. } => {
                let file_name = escaped(file_name);
                let head = format!(
                    "Content-Disposition: form-data; name=\"{name}\"; filename=\"{file_name}\"\r\n\
                     Content-Type: {}\r\n\r\n",
                    one_line(media_type)
                );
                body.put_slice(head.as_bytes());
                body.put_slice(bytes);
            }
        }
        body.put_slice(b"\r\n");
    }
    body.put_slice(format!("--{boundary}--\r\n").as_bytes());
    (body.freeze(), format!("multipart/form-data; boundary={boundary}"))
}

/// Nothing holds a digest of itself, so no part can hold the boundary.
fn boundary(parts: &[Part]) -> String {
    let mut all = BytesMut::new();
    for part in parts {
        all.put_slice(part.name().as_bytes());
        match part {
            Part::Field { value, .. } => all.put_slice(value.as_bytes()),
            Part::File { bytes, .. } => all.put_slice(bytes),
        }
    }
    format!("countersign-{}", &TokenDigest::of(&all).to_hex()[..32])
}

/// As browsers write names (HTML, multipart/form-data encoding algorithm).
fn escaped(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

fn one_line(media_type: &str) -> &str {
    let plain = media_type.bytes().all(|b| (0x20..0x7f).contains(&b));
    if plain && !media_type.is_empty() { media_type } else { "application/octet-stream" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_or_type_can_add_a_line_of_its_own() {
        let field = |name: &str| Part::Field { name: name.to_owned(), value: "v".to_owned() };
        let file = Part::File {
            name: "f".to_owned(),
            file_name: "a\"\r\nX: y.txt".to_owned(),
            media_type: "text/plain\r\nX: y".to_owned(),
            bytes: Bytes::from_static(b"\x00\xff--"),
        };
        let (body, kind) = encode(&[field("a\r\nX: y"), file]);
        let text = String::from_utf8_lossy(&body).into_owned();
        assert!(!text.contains("\nX: y"), "{text}");
        assert!(text.contains("filename=\"a%22%0D%0AX: y.txt\""), "{text}");
        let boundary = kind.rsplit_once('=').expect("a boundary").1;
        assert_eq!(text.matches(boundary).count(), 3, "{text}");
        assert!(text.ends_with(&format!("--{boundary}--\r\n")));
    }
}
