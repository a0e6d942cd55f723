//! `countersign doctor`: what stands between a client and the proxy.
//!
//! Without a command it looks at files, listeners, variables and the tools on the path. With one it
//! runs it like `run`, and [`verdict`] reads what the proxy saw. Findings are computed apart from
//! what gathers their facts, so that each sentence is tested.

mod setup;
mod verdict;

use std::ffi::OsString;
use std::io::{self, Write};

pub use setup::{Setup, check};
pub use verdict::{Observed, Seen, program_name, verdict};

/// Check the setup, or run a command and say how it got on with the proxy
#[derive(Clone, Debug, clap::Args)]
pub struct DoctorArgs {
    /// The caller to run as; may be left out when the configuration has one only
    #[arg(long, value_name = "NAME")]
    pub caller: Option<String>,
    /// A command to run and observe
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    pub text: String,
    /// What to do about it.
    pub mend: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Good,
    /// Worth knowing; nothing is broken.
    Note,
    Problem,
}

impl Finding {
    fn good(text: impl Into<String>) -> Self {
        Self { level: Level::Good, text: text.into(), mend: None }
    }

    fn note(text: impl Into<String>) -> Self {
        Self { level: Level::Note, text: text.into(), mend: None }
    }

    fn problem(text: impl Into<String>) -> Self {
        Self { level: Level::Problem, text: text.into(), mend: None }
    }

    fn mend(self, mend: impl Into<String>) -> Self {
        Self { mend: Some(mend.into()), ..self }
    }
}

/// One line per finding, and what to do about it below.
pub fn print(out: &mut dyn Write, findings: &[Finding]) -> io::Result<()> {
    for finding in findings {
        let mark = match finding.level {
            Level::Good => "ok      ",
            Level::Note => "note    ",
            Level::Problem => "problem ",
        };
        writeln!(out, "{mark}{}", finding.text)?;
        if let Some(mend) = &finding.mend {
            writeln!(out, "        → {mend}")?;
        }
    }
    Ok(())
}

/// 0 if nothing is broken, else 1.
pub fn exit_code(findings: &[Finding]) -> u8 {
    u8::from(findings.iter().any(|finding| finding.level == Level::Problem))
}

#[cfg(test)]
mod tests;
