//! `countersign token`: a random token, shown once, and its digest for the configuration.

use std::io::Write;

use anyhow::Context as _;

use crate::connect::callers;
use crate::secret::{Secret, TokenDigest};

#[derive(clap::Args)]
pub struct Args {
    /// The caller that it is for
    #[arg(default_value = "flow")]
    caller: String,
}

pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<u8> {
    let caller: crate::ids::CallerId = args.caller.parse()?;
    let token = fresh()?;
    let digest = TokenDigest::of(token.expose().as_bytes()).to_hex();
    writeln!(
        out,
        "The token, shown once:\n\n  {token}\n\nInto the configuration:\n\n  [callers.{caller}]\n  \
         token_sha256 = \"{digest}\"\n\nInto the program's environment:\n\n  \
         export HTTPS_PROXY=http://{caller}:{token}@127.0.0.1:3128\n  \
         export HTTP_PROXY=$HTTPS_PROXY\n\n\
         or, with the CA and all that clients need:\n\n  \
         eval \"$(COUNTERSIGN_TOKEN={token} countersign env --caller {caller})\"",
        token = token.expose(),
    )?;
    Ok(0)
}

/// 160 random bits, in characters that no client has to encode.
pub fn fresh() -> anyhow::Result<Secret> {
    callers::fresh_token().context("no token could be made")
}
