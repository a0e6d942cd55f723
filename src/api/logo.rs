//! A project's logo: a bitmap, because an SVG may be a program. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Each visit of the connect page loads it.
pub const MAX_BYTES: usize = 96 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotALogo {
    #[error("the logo is larger than 96 KiB")]
    TooLarge,
    #[error("the logo is no PNG, JPEG, GIF or WebP picture")]
    NoPicture,
}

/// The data URL of a picture, which is what it is by its first bytes and not by its name.
///
/// # Errors
/// When it is too large, or none that browsers show without running anything.
pub fn data_url(bytes: &[u8]) -> Result<String, NotALogo> {
    if bytes.len() > MAX_BYTES {
        return Err(NotALogo::TooLarge);
    }
    let kind = kind_of(bytes).ok_or(NotALogo::NoPicture)?;
    Ok(format!("data:image/{kind};base64,{}", STANDARD.encode(bytes)))
}

fn kind_of(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some("png"),
        [0xff, 0xd8, 0xff, ..] => Some("jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("webp"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_small_bitmap_is_a_logo() {
        let png = b"\x89PNG\r\n\x1a\nrest";
        assert_eq!(data_url(png), Ok("data:image/png;base64,iVBORw0KGgpyZXN0".to_owned()));
        for (bytes, wrong) in [
            (&b"<svg onload=alert(1)>"[..], NotALogo::NoPicture),
            (b"\x89PNG", NotALogo::NoPicture),
            (b"", NotALogo::NoPicture),
            (&[0xff; MAX_BYTES + 1], NotALogo::TooLarge),
        ] {
            assert_eq!(data_url(bytes), Err(wrong));
        }
    }
}
