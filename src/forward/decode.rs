//! Undoing the codings of an answer's body (RFC 9110 §8.4), piece by piece.
//!
//! What comes out is pulled, so that a small piece that stands for gigabytes never becomes more
//! than one buffer at a time: who reads slowly slows the origin down. What can be decoded is given
//! out at once, so a server's flush stays one. Pure but for the codecs' own memory, which is
//! bounded: 32 KiB for gzip and deflate, 8 MiB for zstd (RFC 9659), 16 MiB for brotli (RFC 7932
//! §9.1).

use std::io;

use async_compression::codecs::zstd::params::DParameter;
use async_compression::codecs::{
    BrotliDecoder, DecodeV2, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder,
};
use async_compression::core::util::{PartialBuffer, WriteBuffer};
use bytes::{Buf as _, Bytes};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

/// More than one coding is rare; a long list is somebody's attack on our memory.
const MAX_LAYERS: usize = 3;
/// How much comes out at once.
const PIECE_BYTES: usize = 16 * 1024;
/// 8 MiB, the most that a `zstd` coding may ask for (RFC 9659 §3).
const ZSTD_WINDOW_LOG: u32 = 23;

/// The content codings that are understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    fn named(token: &str) -> Option<Self> {
        Some(match token.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Self::Gzip,
            "deflate" => Self::Deflate,
            "br" => Self::Brotli,
            "zstd" => Self::Zstd,
            _ => return None,
        })
    }

    /// In the order in which they were applied. `None` where one is not understood, or there are
    /// too many.
    pub(super) fn of(headers: &HeaderMap) -> Option<Vec<Self>> {
        let mut codings = Vec::new();
        for line in headers.get_all(CONTENT_ENCODING) {
            let tokens = line.to_str().ok()?.split(',').map(str::trim);
            for token in tokens.filter(|token| !token.is_empty()) {
                if !token.eq_ignore_ascii_case("identity") {
                    codings.push(Self::named(token)?);
                }
            }
        }
        (codings.len() <= MAX_LAYERS).then_some(codings)
    }

    /// `first` tells a zlib stream from the bare deflate that some servers send (RFC 9110
    /// §8.4.1.2).
    fn decoder(self, first: u8) -> Box<dyn DecodeV2 + Send> {
        const ZLIB_METHOD: u8 = 8;
        match self {
            Self::Gzip => Box::new(GzipDecoder::new()),
            Self::Deflate if first & 0x0f == ZLIB_METHOD => Box::new(ZlibDecoder::new()),
            Self::Deflate => Box::new(DeflateDecoder::new()),
            Self::Brotli => Box::new(BrotliDecoder::new()),
            Self::Zstd => Box::new(ZstdDecoder::new_with_params(&[DParameter::window_log_max(
                ZSTD_WINDOW_LOG,
            )])),
        }
    }

    /// Whether several streams one after the other are one body (RFC 1952 §2.2, RFC 8878 §3.1).
    fn concatenates(self) -> bool {
        matches!(self, Self::Gzip | Self::Zstd)
    }
}

/// Decodes one body.
pub(super) struct Decoder {
    /// The coding that was applied last comes first.
    layers: Vec<Layer>,
    piece: Box<[u8]>,
}

impl Decoder {
    /// For `codings` in the order in which they were applied.
    pub(super) fn new(codings: &[Coding]) -> Self {
        let layers = codings.iter().rev().map(|coding| Layer::new(*coding)).collect();
        Self { layers, piece: vec![0; PIECE_BYTES].into() }
    }

    /// Gives it what came; only once all that came before has been pulled.
    pub(super) fn push(&mut self, chunk: Bytes) {
        if let Some(outermost) = self.layers.first_mut() {
            outermost.input = chunk;
        }
    }

    /// The next piece; empty when more has to come first.
    ///
    /// # Errors
    /// When what came is not what the head announced.
    pub(super) fn pull(&mut self) -> io::Result<Bytes> {
        pull(&mut self.layers, &mut self.piece)
    }

    /// Nothing comes any more.
    ///
    /// # Errors
    /// When the stream had not come to its end. An empty body is no broken one.
    pub(super) fn finish(&self) -> io::Result<()> {
        match self.layers.iter().all(Layer::is_whole) {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Out of the last of `layers`, which are fed by those before them.
fn pull(layers: &mut [Layer], piece: &mut [u8]) -> io::Result<Bytes> {
    let Some((layer, outer)) = layers.split_last_mut() else { return Ok(Bytes::new()) };
    loop {
        let decoded = layer.decode(piece)?;
        if decoded > 0 {
            return Ok(Bytes::copy_from_slice(&piece[..decoded]));
        }
        layer.input = pull(outer, piece)?;
        if layer.input.is_empty() {
            return Ok(Bytes::new());
        }
    }
}

struct Layer {
    coding: Coding,
    /// Made when the first byte is there.
    codec: Option<Box<dyn DecodeV2 + Send>>,
    input: Bytes,
    /// The last piece was full: there may be more without any input.
    full: bool,
    ended: bool,
}

impl Layer {
    fn new(coding: Coding) -> Self {
        Self { coding, codec: None, input: Bytes::new(), full: false, ended: false }
    }

    fn is_whole(&self) -> bool {
        self.ended || self.codec.is_none()
    }

    /// Fills `piece` as far as it can and says how far.
    fn decode(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        let mut output = WriteBuffer::new_initialized(piece);
        while (self.full || !self.input.is_empty()) && !output.has_no_spare_space() {
            if self.ended && !self.begin_next()? {
                self.input.clear();
                break;
            }
            self.step(&mut output)?;
        }
        Ok(output.written_len())
    }

    fn step(&mut self, output: &mut WriteBuffer<'_>) -> io::Result<()> {
        let coding = self.coding;
        let first = self.input.first().copied().unwrap_or_default();
        let codec = self.codec.get_or_insert_with(|| coding.decoder(first));
        let mut input = PartialBuffer::new(&self.input[..]);
        let draining = self.input.is_empty();
        let before = output.written_len();
        let result = codec.decode(&mut input, output);
        let used = input.written_len();
        let idle = used == 0 && output.written_len() == before;
        self.input.advance(used);
        self.full = output.has_no_spare_space();
        match result {
            Ok(ended) => self.ended = ended,
            // There was nothing left in it: some codecs say so by an error.
            Err(_) if draining => {}
            Err(error) => return Err(error),
        }
        if idle && !self.ended && !draining {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the stream does not go on"));
        }
        Ok(())
    }

    /// What follows the end of a stream: another one, or bytes that no client would show either.
    fn begin_next(&mut self) -> io::Result<bool> {
        self.full = false;
        if self.input.is_empty() || !self.coding.concatenates() {
            return Ok(false);
        }
        if let Some(codec) = &mut self.codec {
            codec.reinit()?;
        }
        self.ended = false;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use async_compression::Level;
    use async_compression::codecs::{
        BrotliEncoder, DeflateEncoder, EncodeV2, GzipEncoder, ZlibEncoder, ZstdEncoder,
    };
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn encoder(coding: &str) -> Box<dyn EncodeV2> {
        match coding {
            "gzip" => Box::new(GzipEncoder::new(Level::Default.into())),
            "deflate" => Box::new(ZlibEncoder::new(Level::Default.into())),
            "bare deflate" => Box::new(DeflateEncoder::new(Level::Default.into())),
            "br" => Box::new(BrotliEncoder::new(Default::default())),
            "zstd" => Box::new(ZstdEncoder::new(3)),
            other => panic!("{other}"),
        }
    }

    /// Each of `texts` flushed, as a server does after each event.
    fn flushed(coding: &str, texts: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut encoder = encoder(coding);
        let mut room = vec![0; 4 << 20];
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        for text in texts {
            let mut output = WriteBuffer::new_initialized(&mut room);
            let mut input = PartialBuffer::new(*text);
            while !input.unwritten().is_empty() {
                encoder.encode(&mut input, &mut output).expect("text can be encoded");
            }
            while !encoder.flush(&mut output).expect("it flushes") {}
            pieces.push(output.written().to_vec());
        }
        let mut output = WriteBuffer::new_initialized(&mut room);
        while !encoder.finish(&mut output).expect("it ends") {}
        pieces.push(output.written().to_vec());
        pieces
    }

    fn encoded(coding: &str, text: &[u8]) -> Vec<u8> {
        flushed(coding, &[text]).concat()
    }

    fn decoder(names: &str) -> Decoder {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_str(names).expect("visible"));
        Decoder::new(&Coding::of(&headers).expect(names))
    }

    fn all_of(decoder: &mut Decoder) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        loop {
            let piece = decoder.pull()?;
            if piece.is_empty() {
                return Ok(out);
            }
            assert!(piece.len() <= PIECE_BYTES);
            out.extend_from_slice(&piece);
        }
    }

    fn decoded<'a>(names: &str, chunks: impl IntoIterator<Item = &'a [u8]>) -> io::Result<Vec<u8>> {
        let mut decoder = decoder(names);
        let mut out = Vec::new();
        for chunk in chunks {
            decoder.push(Bytes::copy_from_slice(chunk));
            out.extend(all_of(&mut decoder)?);
        }
        decoder.finish().map(|()| out)
    }

    const ALL: [(&str, &str); 5] = [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("bare deflate", "deflate"),
        ("br", "br"),
        ("zstd", "zstd"),
    ];

    #[test]
    fn every_coding_is_undone_wherever_it_is_cut() {
        let text: Vec<u8> =
            (0..30_000_u32).flat_map(|n| (n * n).to_string().into_bytes()).collect();
        for (coding, name) in ALL {
            let bytes = encoded(coding, &text);
            for length in [1_usize, 7, 1000, 16_384, usize::MAX] {
                let chunks = bytes.chunks(length.min(bytes.len()));
                assert!(decoded(name, chunks).expect(coding) == text, "{coding} by {length}");
            }
        }
    }

    #[test]
    fn what_was_flushed_comes_out_at_once() {
        for (coding, name) in ALL {
            let texts: [&[u8]; 3] = [b"data: 1\n\n", b"data: 22\n\n", b"data: 333\n\n"];
            let mut decoder = decoder(name);
            for (piece, text) in flushed(coding, &texts).into_iter().zip(texts) {
                decoder.push(piece.into());
                assert_eq!(all_of(&mut decoder).expect(coding), text, "{coding}");
            }
        }
    }

    #[test]
    fn codings_on_top_of_each_other_are_undone_in_their_order() {
        let text = b"text ".repeat(10_000);
        let bytes = encoded("br", &encoded("gzip", &text));
        assert_eq!(decoded("gzip, identity,br", bytes.chunks(100)).expect("both"), text);
        assert!(decoded("br, gzip", [&bytes[..]]).is_err());
    }

    #[test]
    fn streams_one_after_the_other_are_one_body() {
        for name in ["gzip", "zstd"] {
            let bytes = [encoded(name, b"one "), encoded(name, b"two")].concat();
            for length in [1, bytes.len()] {
                assert_eq!(decoded(name, bytes.chunks(length)).expect(name), b"one two", "{name}");
            }
        }
        let surplus = [encoded("br", b"one"), b"surplus".to_vec()].concat();
        assert_eq!(decoded("br", [&surplus[..]]).expect("the rest is dropped"), b"one");
    }

    #[test]
    fn a_stream_that_is_cut_or_broken_is_an_error_and_an_empty_body_is_none() {
        let text = b"some text that is worth a few bytes".repeat(50);
        for (coding, name) in ALL {
            let bytes = encoded(coding, &text);
            for length in [1, 5, bytes.len() / 2, bytes.len() - 1] {
                assert!(decoded(name, [&bytes[..length]]).is_err(), "{coding} cut at {length}");
            }
            assert_eq!(decoded(name, []).expect("empty"), b"", "{coding}");
        }
        for name in ["gzip", "br", "zstd"] {
            assert!(decoded(name, [&b"{\"plain\":\"json\"}"[..]]).is_err(), "{name}");
        }
        let mut wrong = encoded("gzip", &text);
        let last = wrong.len() - 6;
        wrong[last] ^= 1;
        assert!(decoded("gzip", [&wrong[..]]).is_err(), "a checksum that is wrong");
    }

    #[test]
    fn only_known_codings_are_undone_and_only_a_few() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(text));
            Coding::of(&headers)
        };
        assert_eq!(of("GZip"), Some(vec![Coding::Gzip]));
        assert_eq!(of("x-gzip, br"), Some(vec![Coding::Gzip, Coding::Brotli]));
        assert_eq!(of("identity"), Some(vec![]));
        assert_eq!(Coding::of(&HeaderMap::new()), Some(vec![]));
        for text in ["compress", "gzip, aws-chunked", "dcb", "gzip,gzip,gzip,gzip", "gzip;q=1"] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    /// A window of 128 MiB is more than RFC 9659 allows.
    #[test]
    fn a_zstd_stream_may_not_ask_for_a_huge_window() {
        use async_compression::codecs::zstd::params::CParameter;

        let text = b"x".repeat(100_000);
        let mut encoder = ZstdEncoder::new_with_params(0, &[CParameter::window_log(27)]);
        let mut room = vec![0; 1 << 20];
        let mut output = WriteBuffer::new_initialized(&mut room);
        let mut input = PartialBuffer::new(&text[..]);
        encoder.encode(&mut input, &mut output).expect("text can be encoded");
        while !encoder.finish(&mut output).expect("it ends") {}
        assert!(decoded("zstd", [output.written()]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_of_an_origin_make_it_panic_or_loop(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            name in prop::sample::select(vec!["gzip", "deflate", "br", "zstd", "gzip,br"]),
        ) {
            // Whatever it says; a loop would not end.
            let _ = decoded(name, bytes.chunks(50));
        }
    }
}
