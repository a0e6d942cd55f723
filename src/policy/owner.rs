//! Which of several apps a request is for, where they share a host: Outlook and Teams are both at
//! `graph.microsoft.com`, and a path says nothing. What the caller has decides.

use super::{Binding, CallerPolicy};
use crate::ids::{AccountId, AppId};

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner<'a> {
    /// The only one, or the caller has no account of any.
    First,
    This(&'a AppId),
    /// The caller has accounts of several, and nothing chooses.
    Unclear(Vec<AccountId>),
}

/// The account named by the request → the only app that the caller has → the default account's.
pub fn owner<'a>(
    policy: &CallerPolicy,
    mut owners: impl Iterator<Item = &'a AppId>,
    selector: Option<&str>,
) -> Owner<'a> {
    let (Some(first), Some(second)) = (owners.next(), owners.next()) else { return Owner::First };
    let owners: Vec<&AppId> = [first, second].into_iter().chain(owners).collect();
    let of_one = |binding: &&Binding| owners.contains(&&binding.app);
    let named = |binding: &&Binding| selector.is_none_or(|name| binding.is_called(name));
    let held: Vec<&Binding> = policy.bindings.iter().filter(of_one).filter(named).collect();
    let defaults: Vec<&Binding> = held.iter().filter(|binding| binding.default).copied().collect();
    match (sole_app(&held), sole_app(&defaults)) {
        _ if held.is_empty() => Owner::First,
        (Some(app), _) | (None, Some(app)) => {
            let found = owners.into_iter().find(|id| *id == app);
            found.map_or(Owner::First, Owner::This)
        }
        (None, None) => {
            Owner::Unclear(held.iter().map(|binding| binding.account.clone()).collect())
        }
    }
}

fn sole_app<'a>(bindings: &[&'a Binding]) -> Option<&'a AppId> {
    let (first, rest) = bindings.split_first()?;
    rest.iter().all(|binding| binding.app == first.app).then_some(&first.app)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Kept, Mode, Rules};

    fn policy(accounts: &[(&str, &str, bool)]) -> CallerPolicy {
        let binding = |(name, app, default): &(&str, &str, bool)| Binding {
            account: name.parse().expect("a name"),
            id: format!("apn_{name}").parse().expect("an id"),
            app: app.parse().expect("an app"),
            hosts: Vec::new(),
            open: Vec::new(),
            paths: Vec::new(),
            default: *default,
        };
        CallerPolicy {
            caller: "flow".parse().expect("a caller"),
            mode: Mode::Enforce,
            bindings: accounts.iter().map(binding).collect(),
            lapsed: Vec::new(),
            rules: Rules::from(Vec::new()),
            kept: Kept::InFile,
        }
    }

    #[test]
    fn what_the_caller_has_decides_between_apps_that_share_a_host() {
        let ids: Vec<AppId> =
            ["outlook", "teams"].iter().map(|id| id.parse().expect("an app")).collect();
        let (outlook, teams) = (Owner::This(&ids[0]), Owner::This(&ids[1]));
        let both = [("mail", "outlook", false), ("chat", "teams", false)];
        let preferred = [("mail", "outlook", false), ("chat", "teams", true)];
        let unclear = Owner::Unclear(vec!["mail".parse().expect("a"), "chat".parse().expect("a")]);
        for (accounts, selector, expected) in [
            (&[][..], None, Owner::First),
            (&[("x", "slack", false)], None, Owner::First),
            (&[("chat", "teams", false)], None, teams.clone()),
            (&[("chat", "teams", false)], Some("other"), Owner::First),
            (&both, Some("mail"), outlook.clone()),
            (&both, Some("apn_chat"), teams.clone()),
            (&both, None, unclear),
            (&preferred, None, teams.clone()),
            (&preferred, Some("mail"), outlook),
        ] {
            let found = owner(&policy(accounts), ids.iter(), selector);
            assert_eq!(found, expected, "{accounts:?} {selector:?}");
        }
        assert_eq!(owner(&policy(&both), ids[..1].iter(), None), Owner::First);
    }
}
