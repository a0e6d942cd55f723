//! Who may use an account: sharing it, and giving it away. Narrowing asks first, and says whose
//! bindings end.

use askama::Template;
use http::Response;

use super::super::Trouble;
use super::super::shell::{Confirm, Section, Shell};
use super::super::visit::Visit;
use super::view::Book;
use crate::forward::Body;
use crate::ids::MemberId;
use crate::policy::access::{Operation, may};
use crate::vault::{Account, Member, Owner, Share, Shares};

#[derive(Template)]
#[template(path = "workspace/access.html")]
struct AccessPage<'a> {
    shell: Shell<'a>,
    id: &'a str,
    name: &'a str,
    choice: &'static str,
    /// Everybody but the owner, and whether it is shared with them.
    people: Vec<(&'a Member, bool)>,
    error: Option<&'static str>,
}

pub(super) async fn manage(visit: &Visit<'_>, id: &str) -> Result<Response<Body>, Trouble> {
    let account = visit.account(id, Operation::ManageAccess).await?;
    let book = Book::read(visit).await?;
    if !visit.is_post() {
        return Ok(visit.page(&page(visit, id, &account, &book, None)));
    }
    let Some(shares) = asked(visit, &book) else {
        let error = Some("Tick the members who may use it, or choose another answer.");
        return Ok(visit.refused(&page(visit, id, &account, &book, error)));
    };
    let after = Shares::from_iter(shares.iter().map(|share| (account.id.clone(), share.clone())));
    let stops = lost(&book, &account, &account, &after);
    if !stops.is_empty() && !visit.form.has("understood") {
        let fields: Vec<(&str, &str)> = visit
            .form
            .pairs()
            .filter(|(name, _)| ["with", "member"].contains(name))
            .chain([("understood", "yes")])
            .collect();
        let text =
            format!("Some bindings of {} rest on members who would lose it.", account.nickname);
        return Ok(confirm(
            visit,
            id,
            &Asked { account: &account, page: "access", text, fields, stops },
        ));
    }
    visit.vault().set_shares(&account.id, &shares, Some(&visit.member().id)).await?;
    let (said, detail) = match &shares[..] {
        [] => ("is private now.", "private".to_owned()),
        [Share::Workspace] => ("may be used by the whole workspace now.", "workspace".to_owned()),
        some => {
            let names = some.iter().map(|share| match share {
                Share::Member(member) => book.name(member),
                Share::Workspace => "workspace".to_owned(),
            });
            ("may be used by those you named.", names.collect::<Vec<_>>().join(", "))
        }
    };
    visit.audit_of(&account.id, "account_shared", account.nickname.as_str(), &detail);
    Ok(visit.done(&format!("/accounts/{id}"), format!("{} {said}", account.nickname)))
}

fn page<'a>(
    visit: &'a Visit<'_>,
    id: &'a str,
    account: &'a Account,
    book: &'a Book,
    error: Option<&'static str>,
) -> AccessPage<'a> {
    let shares = book.shares.of(&account.id);
    let shared = |member: &Member| shares.contains(&Share::Member(member.id.clone()));
    let mut people: Vec<(&Member, bool)> = book
        .members
        .values()
        .filter(|member| account.owner != Owner::Member(member.id.clone()))
        .map(|member| (member, shared(member)))
        .collect();
    people.sort_by(|(a, _), (b, _)| (&a.name, &a.email).cmp(&(&b.name, &b.email)));
    AccessPage {
        shell: visit.shell(Section::Accounts, "Manage access"),
        id,
        name: account.nickname.as_str(),
        choice: match shares {
            [] => "nobody",
            shares if shares.contains(&Share::Workspace) => "workspace",
            _ => "members",
        },
        people,
        error,
    }
}

/// What the form says; `None` if it names nobody where it should.
fn asked(visit: &Visit<'_>, book: &Book) -> Option<Vec<Share>> {
    match visit.form.text("with") {
        "nobody" => Some(Vec::new()),
        "workspace" => Some(vec![Share::Workspace]),
        _ => {
            let named: std::collections::BTreeSet<MemberId> =
                visit.form.all("member").filter_map(|id| id.parse().ok()).collect();
            let known = named.into_iter().filter(|id| book.members.contains_key(id));
            let shares: Vec<Share> = known.map(Share::Member).collect();
            (!shares.is_empty()).then_some(shares)
        }
    }
}

/// The bindings that hold now and would not, if the account and its shares were as `after`.
fn lost(book: &Book, before: &Account, after: &Account, shares: &Shares) -> Vec<String> {
    let lines = book.bindings_of(&before.id).filter_map(|binding| {
        let member = book.members.get(binding.created_by.as_ref()?)?;
        let holds = may(book.shares.standing(member, before), Operation::Bind);
        let will = may(shares.standing(member, after), Operation::Bind);
        let caller = &binding.caller;
        (holds && !will).then(|| format!("The caller {caller}, to which {} bound it", member.name))
    });
    lines.collect()
}

struct Asked<'a> {
    account: &'a Account,
    page: &'static str,
    text: String,
    fields: Vec<(&'a str, &'a str)>,
    stops: Vec<String>,
}

fn confirm(visit: &Visit<'_>, id: &str, asked: &Asked<'_>) -> Response<Body> {
    let title = format!("Take {} away?", asked.account.nickname);
    let action = format!("/accounts/{id}/{}", asked.page);
    let back = format!("/accounts/{id}/access");
    visit.page(&Confirm {
        shell: visit.shell(Section::Accounts, &title),
        text: &asked.text,
        stops: &asked.stops,
        action: &action,
        fields: &asked.fields,
        tick: None,
        label: "Go on",
        back: &back,
        error: None,
    })
}

/// Makes another member the owner.
pub(super) async fn give(visit: &Visit<'_>, id: &str) -> Result<Response<Body>, Trouble> {
    let account = visit.account(id, Operation::ManageAccess).await?;
    if !visit.is_post() {
        return Err(Trouble::NotFound);
    }
    let book = Book::read(visit).await?;
    let to: Option<MemberId> = visit.form.text("to").parse().ok();
    let to = to.and_then(|to| book.members.get(&to)).filter(|to| to.disabled_at.is_none());
    let Some(to) = to else { return Err(Trouble::Bad("Choose who gets it.".to_owned())) };
    if !visit.form.has("understood") {
        let after = Account { owner: Owner::Member(to.id.clone()), ..account.clone() };
        let text = format!(
            "{} becomes the owner of {}. You keep it only as far as it is shared with you, and \
             cannot take it back.",
            to.name, account.nickname
        );
        let fields = vec![("to", to.id.as_str()), ("understood", "yes")];
        let stops = lost(&book, &account, &after, &book.shares);
        return Ok(confirm(
            visit,
            id,
            &Asked { account: &account, page: "give", text, fields, stops },
        ));
    }
    visit.vault().give_account(&account.id, Some(&to.id)).await?;
    visit.audit_of(&account.id, "account_given", account.nickname.as_str(), &to.email);
    let text = format!("{} belongs to {} now.", account.nickname, to.name);
    Ok(visit.done(Section::Accounts.href(), text))
}
