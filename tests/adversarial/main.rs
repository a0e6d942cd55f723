//! The acceptance list of attacks, against the real binary with real sockets: bytes in on one side,
//! bytes recorded on the other.
//!
//! "Refused" means a 4xx or a closed connection, and that nothing of it reached an origin. "One
//! clean" is the alternative where the RFCs leave a choice: one request, whose bytes no two parsers
//! read differently, with the credential once, and at most one answer.
//!
//! | threat | where |
//! |---|---|
//! | T1 names one host to policy, another to the wire | `authority`: C1–C6, C18 |
//! | T2 another spelling | `authority`: C8–C11, C17; `framing`: B30 |
//! | T3 credential in clear text | `authority`: C12–C16; `Siege::lift` (nothing dials port 80) |
//! | T4 another port or tenant | `authority`: C12, C19 |
//! | T5 a request in a request | `framing`: B1–B27 |
//! | T6 credential removed or doubled | `headers`: D1–D6 |
//! | T7 credential read back | `headers`: D8, D11–D13 |
//! | T9 exhaustion by size | `framing`: B28, B29 |
//! | T10 revoked token, open tunnels | `authentication`: A9 |
//! | T11 guesses | `authentication`: A2, A3, A10 |
//! | T12 open proxy | `authentication`: A1, A5, A6; `authority`: C15 |
//! | T14 a 407 that costs the token | `authentication`: A7; `headers`: D14 |
//! | T34 secrets in outputs | `Siege::lift`, at the end of every test |
//! | T35 log injection | `headers`: D13 |

#[allow(dead_code, reason = "shared with tests that use more of it")]
#[path = "../support/house.rs"]
mod house;
#[allow(dead_code, reason = "shared with tests that use more of it")]
#[path = "../support/origin.rs"]
mod origin;
#[path = "../support/recorder.rs"]
mod recorder;
#[path = "../support/siege.rs"]
mod siege;
mod storm;

/// The search at the end of every test is worth what it finds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_got_out_is_found_in_every_form() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let key = siege::API_KEY;
    let hex: String = key.bytes().map(|byte| format!("{byte:02x}")).collect();
    let percent = key.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D");
    let shifted = ["", "x", "xy"].map(|before| STANDARD.encode(format!("{before}{key}zz")));
    for leak in [key.to_owned(), hex, percent].into_iter().chain(shifted) {
        assert!(siege::secret_in(leak.as_bytes()).is_some(), "{leak}");
    }
    assert_eq!(siege::secret_in(b"nothing of ours"), None);
}

mod authentication;
mod authority;
mod framing;
mod headers;
