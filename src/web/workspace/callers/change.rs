//! What a caller is, a new token for it, and its end.

use std::time::Duration;

use askama::Template;
use http::Response;

use super::super::Trouble;
use super::super::shell::{Confirm, Moment, Section, Shell};
use super::super::visit::Visit;
use super::new::{LIVES, MAX_DESCRIPTION, Occasion, concurrent, show_token};
use super::view::{Ledger, caller_for};
use crate::config::duration;
use crate::connect::callers;
use crate::forward::Body;
use crate::policy::access::CallerOperation;
use crate::vault::{CallerDetails, StoredCaller};

#[derive(Template)]
#[template(path = "workspace/caller_edit.html")]
struct EditPage<'a> {
    shell: Shell<'a>,
    name: &'a str,
    description: String,
    rate: String,
    concurrent: String,
    report: bool,
    lifetime: &'a str,
    expires: Option<Moment>,
    error: Option<String>,
}

impl EditPage<'_> {
    fn lives(&self) -> &'static [(&'static str, &'static str)] {
        &LIVES
    }
}

/// The choice that leaves the end as it is.
const KEEP: &str = "keep";

pub(super) async fn edit(visit: &Visit<'_>, name: &str) -> Result<Response<Body>, Trouble> {
    let ledger = Ledger::read(visit).await?;
    let caller = caller_for(visit, &ledger, name, CallerOperation::Change).await?;
    let mut error = None;
    if visit.is_post() {
        match save(visit, &caller).await {
            Ok(()) => return Ok(visit.done(&format!("/callers/{name}"), "Saved.")),
            Err(trouble) => error = Some(trouble.on_form()?),
        }
    }
    let (details, form) = (&caller.details, &visit.form);
    let refused = error.is_some();
    let entered = |field: &str, held: String| match refused {
        true => form.text(field).to_owned(),
        false => held,
    };
    let held_concurrent = details.max_concurrent.map(|n| n.to_string()).unwrap_or_default();
    let title = format!("Edit {name}");
    let page = EditPage {
        shell: visit.shell(Section::Callers, &title),
        name: caller.name.as_str(),
        description: entered("description", details.description.clone()),
        rate: entered("rate", details.rate.clone().unwrap_or_default()),
        concurrent: entered("concurrent", held_concurrent),
        report: match refused {
            true => form.has("report"),
            false => details.mode.as_deref() == Some("report"),
        },
        lifetime: if refused { form.text("lifetime") } else { KEEP },
        expires: Moment::maybe(details.expires_at, visit.now()),
        error,
    };
    Ok(if refused { visit.refused(&page) } else { visit.page(&page) })
}

async fn save(visit: &Visit<'_>, caller: &StoredCaller) -> Result<(), Trouble> {
    let (form, now) = (&visit.form, visit.now());
    let expires_at = match form.text("lifetime") {
        KEEP => caller.details.expires_at,
        "" => None,
        life => Some(now + duration(life).map_err(Trouble::Bad)?),
    };
    let details = CallerDetails {
        description: form.text("description").chars().take(MAX_DESCRIPTION).collect(),
        mode: form.has("report").then(|| "report".to_owned()),
        rate: form.said("rate").map(str::to_owned),
        max_concurrent: concurrent(form.text("concurrent"))?,
        rules: caller.details.rules.clone(),
        expires_at,
    };
    callers::update(visit.vault(), caller, &details).await?;
    let mode = details.mode.as_deref().unwrap_or("enforce");
    visit.audit("caller_changed", caller.name.as_str(), &format!("mode {mode}"));
    Ok(())
}

#[derive(Template)]
#[template(path = "workspace/caller_rotate.html")]
struct RotatePage<'a> {
    shell: Shell<'a>,
    name: &'a str,
    error: Option<String>,
}

pub(super) async fn rotate(visit: &Visit<'_>, name: &str) -> Result<Response<Body>, Trouble> {
    let ledger = Ledger::read(visit).await?;
    let caller = caller_for(visit, &ledger, name, CallerOperation::Change).await?;
    let title = format!("A new token for {name}");
    let page = |error| RotatePage {
        shell: visit.shell(Section::Callers, &title),
        name: caller.name.as_str(),
        error,
    };
    if !visit.is_post() {
        return Ok(visit.page(&page(None)));
    }
    let overlap: Option<Duration> = match visit.form.said("overlap").map(duration).transpose() {
        Ok(overlap) => overlap.filter(|overlap| !overlap.is_zero()),
        Err(why) => return Ok(visit.refused(&page(Some(why)))),
    };
    let token = callers::rotate(visit.vault(), &caller.name, overlap, visit.now()).await?;
    let detail = visit.form.said("overlap").unwrap_or("at once");
    visit.audit("caller_token_rotated", name, &format!("old tokens end: {detail}"));
    Ok(show_token(visit, &caller.name, &token, Occasion::Rotated))
}

pub(super) async fn revoke(visit: &Visit<'_>, name: &str) -> Result<Response<Body>, Trouble> {
    let ledger = Ledger::read(visit).await?;
    let caller = caller_for(visit, &ledger, name, CallerOperation::Revoke).await?;
    if visit.is_post() {
        visit.vault().delete_caller(&caller.name).await?;
        visit.audit("caller_revoked", name, &caller.details.description);
        let text = format!("{name} is revoked. What it had open is closed within a second.");
        return Ok(visit.done(Section::Callers.href(), text));
    }
    let line = ledger.line(&caller);
    let mut stops = vec![format!("Every program that uses {name}'s token, within a second")];
    stops.extend(
        line.uses
            .iter()
            .map(|used| format!("Requests to {} with {}", used.face.app_name, used.said())),
    );
    let title = format!("Revoke {name}?");
    let (action, back) = (format!("/callers/{name}/revoke"), format!("/callers/{name}"));
    Ok(visit.page(&Confirm {
        shell: visit.shell(Section::Callers, &title),
        text: "The caller is removed for good, with its tokens, bindings and rules. Its accounts stay.",
        stops: &stops,
        action: &action,
        fields: &[],
        tick: None,
        label: "Revoke the caller",
        back: &back,
        error: None,
    }))
}
