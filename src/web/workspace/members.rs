//! *Members*: who is in the workspace, inviting, changing roles, removing.

use std::time::Duration;

use askama::Template;
use http::Response;

use super::Trouble;
use super::shell::{Confirm, Moment, Paging, Section, Shell};
use super::visit::{Flash, Visit};
use super::welcome::check_email;
use crate::connect::Removed;
use crate::forward::Body;
use crate::ids::MemberId;
use crate::policy::access::{Role, may_manage};
use crate::random;
use crate::secret::TokenDigest;
use crate::vault::{
    Account, Filter, Invitation, InvitationDetails, InvitationKind, Member, MemberDetails,
};
use crate::web::browser::{append_cookie, see_other};

const PER_PAGE: usize = 50;
const INVITATION_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

pub(super) async fn route(visit: &Visit<'_>, path: &[&str]) -> Result<Response<Body>, Trouble> {
    match (path, visit.is_post()) {
        ([] | [""], false) => list(visit, None).await,
        ([] | [""], true) => invite(visit).await,
        (["invitations", id, "withdraw"], true) => withdraw(visit, id).await,
        ([id], false) => one(visit, id).await,
        ([id, "role"], true) => change_role(visit, id).await,
        ([id, "tokens"], true) => revoke_tokens(visit, id).await,
        ([id, "remove"], _) => remove(visit, id).await,
        _ => Err(Trouble::NotFound),
    }
}

#[derive(Template)]
#[template(path = "workspace/members.html")]
struct ListPage<'a> {
    shell: Shell<'a>,
    people: Vec<Person>,
    paging: Paging,
    invitations: Vec<Pending>,
    /// What the member may make of others; empty: nothing.
    roles: Vec<Role>,
    error: Option<&'a str>,
    email: &'a str,
}

struct Person {
    id: String,
    name: String,
    email: String,
    role: Role,
    joined: Moment,
    is_me: bool,
}

struct Pending {
    id: String,
    email: String,
    role: Role,
    by: String,
    ends: Moment,
}

/// The roles that somebody may hand out.
fn roles_of(visit: &Visit<'_>) -> Vec<Role> {
    let mut roles = Role::ALL.to_vec();
    roles.retain(|role| may_manage(visit.member().role, *role));
    roles.reverse();
    roles
}

async fn list(visit: &Visit<'_>, error: Option<&str>) -> Result<Response<Body>, Trouble> {
    let (members, now) = (visit.vault().members().await?, visit.now());
    let roles = roles_of(visit);
    let open = if roles.is_empty() { Vec::new() } else { visit.vault().invitations().await? };
    let by = |invitation: &Invitation| match &invitation.details.invited_by {
        None => "the terminal".to_owned(),
        Some(id) => members
            .iter()
            .find(|member| member.id == *id)
            .map_or_else(|| "a former member".to_owned(), |member| member.name.clone()),
    };
    let invitations = open.iter().map(|invitation| Pending {
        id: invitation.id.clone(),
        email: invitation
            .details
            .email
            .clone()
            .unwrap_or_else(|| "whoever has the link".to_owned()),
        role: invitation.details.role,
        by: by(invitation),
        ends: Moment::of(invitation.details.expires_at, now),
    });
    let invitations = invitations.collect();
    let people = members.iter().map(|member| person(visit, member)).collect();
    let (people, paging) = Paging::cut(people, PER_PAGE, visit.query.text("page"), "/members");
    let page = ListPage {
        shell: visit.shell(Section::Members, "Members"),
        people,
        paging,
        invitations,
        roles,
        error,
        email: visit.form.text("email"),
    };
    Ok(if error.is_some() { visit.refused(&page) } else { visit.page(&page) })
}

fn person(visit: &Visit<'_>, member: &Member) -> Person {
    Person {
        id: member.id.to_string(),
        name: member.name.clone(),
        email: member.email.clone(),
        role: member.role,
        joined: Moment::of(member.created_at, visit.now()),
        is_me: member.id == visit.member().id,
    }
}

#[derive(Template)]
#[template(path = "workspace/invited.html")]
struct InvitedPage<'a> {
    shell: Shell<'a>,
    email: &'a str,
    link: String,
    ends: Moment,
}

/// The link is shown once, on the page that answers the form.
async fn invite(visit: &Visit<'_>) -> Result<Response<Body>, Trouble> {
    let (email, role) = (visit.form.text("email"), visit.form.text("role"));
    let role: Role = role.parse().map_err(|_| Trouble::Bad("Choose a role.".to_owned()))?;
    if !may_manage(visit.member().role, role) {
        return Err(Trouble::Forbidden("You may not invite somebody with that role."));
    }
    if let Err(error) = check_email(email) {
        return list(visit, Some(&error)).await;
    }
    if visit.vault().member_by_email(email).await?.is_some() {
        return list(visit, Some("There is a member with this address already.")).await;
    }
    let token = random::token("", 32)?;
    let details = InvitationDetails {
        kind: InvitationKind::Invite,
        email: Some(email.to_owned()),
        role,
        member: None,
        invited_by: Some(visit.member().id.clone()),
        expires_at: visit.now() + INVITATION_LIFE,
    };
    let digest = TokenDigest::of(token.expose().as_bytes());
    visit.vault().create_invitation(digest, &details).await?;
    visit.audit("member_invited", email, role.as_str());
    let page = InvitedPage {
        shell: visit.shell(Section::Members, "Invitation"),
        email,
        link: format!("{}/invitation?token={}", visit.workspace.base, token.expose()),
        ends: Moment::of(details.expires_at, visit.now()),
    };
    Ok(visit.page(&page))
}

async fn withdraw(visit: &Visit<'_>, id: &str) -> Result<Response<Body>, Trouble> {
    let open = visit.vault().invitations().await?;
    let found = open.iter().find(|invitation| invitation.id == id).ok_or(Trouble::NotFound)?;
    if !may_manage(visit.member().role, found.details.role) {
        return Err(Trouble::Forbidden("You may not withdraw this invitation."));
    }
    visit.vault().delete_invitation(id).await?;
    let email = found.details.email.clone().unwrap_or_default();
    visit.audit("invitation_withdrawn", &email, found.details.role.as_str());
    Ok(visit.done("/members", "The invitation is withdrawn."))
}

#[derive(Template)]
#[template(path = "workspace/member.html")]
struct MemberPage<'a> {
    shell: Shell<'a>,
    person: Person,
    /// What they may be made; empty: their role may not be changed.
    roles: Vec<Role>,
    accounts: usize,
    /// Of their programs.
    tokens: usize,
}

async fn find(visit: &Visit<'_>, id: &str) -> Result<Member, Trouble> {
    let id: MemberId = id.parse().map_err(|_| Trouble::NotFound)?;
    visit.vault().member(&id).await?.ok_or(Trouble::NotFound)
}

/// One that the visitor may change.
async fn find_to_manage(visit: &Visit<'_>, id: &str) -> Result<Member, Trouble> {
    let member = find(visit, id).await?;
    match may_manage(visit.member().role, member.role) {
        true => Ok(member),
        false => Err(Trouble::Forbidden(
            "Owners change everybody, admins change admins and members. Ask one of them.",
        )),
    }
}

async fn accounts_of(visit: &Visit<'_>, member: &Member) -> Result<Vec<Account>, Trouble> {
    let filter = Filter { member: Some(member.id.clone()), ..Filter::default() };
    Ok(visit.vault().accounts(&filter).await?)
}

async fn one(visit: &Visit<'_>, id: &str) -> Result<Response<Body>, Trouble> {
    let member = find(visit, id).await?;
    let manages = may_manage(visit.member().role, member.role);
    let page = MemberPage {
        shell: visit.shell(Section::Members, &member.name),
        roles: if manages { roles_of(visit) } else { Vec::new() },
        accounts: accounts_of(visit, &member).await?.len(),
        tokens: visit.vault().member_tokens(Some(&member.id)).await?.len(),
        person: person(visit, &member),
    };
    Ok(visit.page(&page))
}

/// When a computer of theirs is lost, say.
async fn revoke_tokens(visit: &Visit<'_>, id: &str) -> Result<Response<Body>, Trouble> {
    let member = find_to_manage(visit, id).await?;
    let revoked = visit.vault().delete_member_tokens(&member.id).await?;
    visit.audit("member_token_revoked", &member.email, &format!("all {revoked}"));
    let text = format!("The API tokens of {} are revoked.", member.name);
    Ok(visit.done(&format!("/members/{id}"), text))
}

async fn change_role(visit: &Visit<'_>, id: &str) -> Result<Response<Body>, Trouble> {
    let member = find_to_manage(visit, id).await?;
    let role = visit.form.text("role").parse();
    let role: Role = role.map_err(|_| Trouble::Bad("Choose a role.".to_owned()))?;
    if !may_manage(visit.member().role, role) {
        return Err(Trouble::Forbidden("You may not hand out a role above your own."));
    }
    let details = MemberDetails { role, ..member.details() };
    visit.vault().update_member(&member.id, &details).await?;
    visit.audit("member_role_changed", &member.email, role.as_str());
    let article = if role == Role::Member { "a" } else { "an" };
    let text = format!("{} is {article} {role} now.", member.name);
    Ok(visit.done(&format!("/members/{id}"), text))
}

/// With their accounts, once whoever removes them has agreed to that.
async fn remove(visit: &Visit<'_>, id: &str) -> Result<Response<Body>, Trouble> {
    let member = find_to_manage(visit, id).await?;
    let accounts = accounts_of(visit, &member).await?;
    if !visit.is_post() {
        return ask_to_remove(visit, &member, &accounts, None).await;
    }
    if !accounts.is_empty() && !visit.form.has("understood") {
        let error = Some("Tick the box, or ask them to give their accounts away first.");
        return ask_to_remove(visit, &member, &accounts, error).await;
    }
    visit.vault().check_an_owner_remains(&member.id).await?;
    let mut not_revoked = Vec::new();
    for account in &accounts {
        let name = account.nickname.to_string();
        let removed = visit.workspace.connector.remove(&account.id).await?;
        visit.audit_of(&account.id, "account_deleted", &name, account.id.as_str());
        if let Some(Removed::Failed { .. }) = removed {
            not_revoked.push(name);
        }
    }
    visit.vault().delete_member(&member.id).await?;
    visit.audit("member_removed", &member.email, member.id.as_str());
    if member.id == visit.member().id {
        let mut response = see_other("/login");
        append_cookie(
            &mut response,
            &visit.workspace.set_cookie("session", "", Some(Duration::ZERO)),
        );
        return Ok(response);
    }
    let flash = match &not_revoked[..] {
        [] => Flash::done(format!("{} is removed.", member.name)),
        names => Flash::warning(format!(
            "{} is removed. Not revoked at the provider: {}. End these grants in its own settings.",
            member.name,
            names.join(", ")
        )),
    };
    Ok(visit.go("/members", Some(flash)))
}

async fn ask_to_remove(
    visit: &Visit<'_>,
    member: &Member,
    accounts: &[Account],
    error: Option<&str>,
) -> Result<Response<Body>, Trouble> {
    let bindings = visit.vault().bindings().await?;
    let theirs = bindings.iter().filter(|binding| binding.created_by.as_ref() == Some(&member.id));
    let mut callers: Vec<String> = theirs.map(|binding| binding.caller.to_string()).collect();
    callers.sort();
    callers.dedup();
    let lost = callers.iter().map(|caller| format!("What they bound to the caller {caller}"));
    let accounts_lost = accounts.iter().map(|account| {
        format!("Their account {}, which is deleted and revoked at the provider", account.nickname)
    });
    let stops: Vec<String> = accounts_lost.chain(lost).collect();
    let text = match accounts {
        [] => format!("{} is logged out at once, and cannot come back.", member.name),
        _ => format!(
            "{0} is logged out at once, and cannot come back. Their accounts are theirs to give: to \
             keep one, ask them to open it, choose Manage access and give it to somebody else.",
            member.name
        ),
    };
    let title = format!("Remove {}?", member.name);
    let tick = (!accounts.is_empty()).then_some("Delete their accounts, too");
    let (action, back) =
        (format!("/members/{}/remove", member.id), format!("/members/{}", member.id));
    let page = Confirm {
        shell: visit.shell(Section::Members, &title),
        text: &text,
        stops: &stops,
        action: &action,
        fields: &[],
        tick,
        label: "Remove the member",
        back: &back,
        error,
    };
    Ok(if error.is_some() { visit.refused(&page) } else { visit.page(&page) })
}
