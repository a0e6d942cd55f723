//! Whether the audit's chain holds: the last check, and a new one. For owners and admins: it tells
//! how much there is.

use std::time::Duration;

use askama::Template;
use http::Response;

use super::super::Trouble;
use super::super::shell::{Moment, Section, Shell};
use super::super::visit::Visit;
use super::check::{Checked, check};
use crate::forward::Body;
use crate::telemetry::Report;

/// A small file is checked before the answer goes out.
const PATIENCE: Duration = Duration::from_secs(2);

/// How the chain stands, in words.
pub struct Proof {
    pub state: State,
    pub at: Option<Moment>,
    pub report: Option<Report>,
    pub problem: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Unknown,
    Running { percent: u64 },
    Sound,
    Broken,
}

impl Proof {
    pub fn of(visit: &Visit<'_>) -> Self {
        let checker = &visit.workspace.checker;
        let last = checker.last();
        let state = match (checker.running(), &last) {
            (Some(progress), _) => State::Running { percent: progress.percent() },
            (None, None) => State::Unknown,
            (None, Some(last)) if last.is_sound() => State::Sound,
            (None, Some(_)) => State::Broken,
        };
        Self {
            state,
            at: last.as_ref().map(|last| Moment::of(last.at, visit.now())),
            problem: last.as_ref().and_then(|last| last.report.as_ref().err().cloned()),
            report: last.and_then(|last| last.report.ok()),
        }
    }

    pub fn said(&self) -> String {
        match self.state {
            State::Unknown => "Not checked yet".to_owned(),
            State::Running { percent } => format!("Checking, {percent} %"),
            State::Sound => "Chain intact".to_owned(),
            State::Broken => "Chain broken".to_owned(),
        }
    }

    pub fn badge(&self) -> &'static str {
        match self.state {
            State::Unknown | State::Running { .. } => "",
            State::Sound => "badge-ok",
            State::Broken => "badge-danger",
        }
    }

    pub fn runs(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }
}

#[derive(Template)]
#[template(path = "workspace/activity_verify.html")]
struct ProofPage<'a> {
    shell: Shell<'a>,
    proof: Proof,
    unaudited: bool,
    file: String,
}

fn require_admin(visit: &Visit<'_>) -> Result<(), Trouble> {
    match visit.member().role.administers() {
        true => Ok(()),
        false => Err(Trouble::Forbidden("Owners and admins check the audit.")),
    }
}

pub(super) fn show(visit: &Visit<'_>) -> Result<Response<Body>, Trouble> {
    require_admin(visit)?;
    let file = visit.workspace.around.audit.as_ref();
    Ok(visit.page(&ProofPage {
        shell: visit.shell(Section::Activity, "Is the audit intact?"),
        proof: Proof::of(visit),
        unaudited: file.is_none(),
        file: file.map(|file| file.display().to_string()).unwrap_or_default(),
    }))
}

pub(super) async fn begin(visit: &Visit<'_>) -> Result<Response<Body>, Trouble> {
    require_admin(visit)?;
    let workspace = visit.workspace;
    let Some(file) = workspace.around.audit.clone() else { return Err(Trouble::NotFound) };
    if let Some(progress) = workspace.checker.begin() {
        workspace.forwarder.telemetry.flush().await;
        visit.audit("audit_checked", "audit", "");
        let (checker, clock) = (workspace.checker.finisher(), workspace.keeper.clock().clone());
        let checking = tokio::task::spawn_blocking(move || {
            // However it ends, the next one can begin.
            let report = check(&file, &progress);
            checker.finish(Checked { at: clock.now(), report });
        });
        let _ = tokio::time::timeout(PATIENCE, checking).await;
    }
    Ok(visit.go("/activity/verify", None))
}
