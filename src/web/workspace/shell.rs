//! What every page of a member has around it, and what pages show alike: times, pages of long
//! lists, and questions before something ends.

use std::time::{Duration, SystemTime};

use askama::Template;
use http::HeaderMap;

use super::Workspace;
use super::visit::Flash;
use crate::clock::rfc3339;
use crate::policy::access::Role;
use crate::vault::Member;
use crate::web::browser::cookie;

/// The places of the workspace, in the order of its navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    Accounts,
    Connect,
    Callers,
    Activity,
    Requests,
    Apps,
    OAuthClients,
    Projects,
    Members,
    Settings,
}

impl Section {
    pub const ALL: [Self; 10] = [
        Self::Accounts,
        Self::Connect,
        Self::Callers,
        Self::Requests,
        Self::Apps,
        Self::Activity,
        Self::OAuthClients,
        Self::Projects,
        Self::Members,
        Self::Settings,
    ];

    /// The places of somebody with this role.
    pub fn of(role: Role) -> impl Iterator<Item = Self> {
        let all = Self::ALL.into_iter();
        all.filter(move |section| *section != Self::Projects || role.administers())
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::Accounts => "Accounts",
            Self::Connect => "Connect an app",
            Self::Callers => "Callers",
            Self::Activity => "Activity",
            Self::Requests => "Request builder",
            Self::Apps => "Apps",
            Self::OAuthClients => "OAuth clients",
            Self::Projects => "Projects",
            Self::Members => "Members",
            Self::Settings => "Settings",
        }
    }

    pub fn href(self) -> &'static str {
        match self {
            Self::Accounts => "/accounts",
            Self::Connect => "/accounts/connect",
            Self::Callers => "/callers",
            Self::Activity => "/activity",
            Self::Requests => "/requests",
            Self::Apps => "/apps",
            Self::OAuthClients => "/oauth-clients",
            Self::Projects => "/projects",
            Self::Members => "/members",
            Self::Settings => "/settings",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    Auto,
    Light,
    Dark,
}

impl Theme {
    pub const ALL: [Self; 3] = [Self::Auto, Self::Light, Self::Dark];

    pub fn of(workspace: &Workspace, headers: &HeaderMap) -> Self {
        let named = cookie(headers, &workspace.cookie_name("theme"));
        named.and_then(Self::named).unwrap_or(Self::Auto)
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|theme| theme.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::Auto => "Auto",
            Self::Light => "Light",
            Self::Dark => "Dark",
        }
    }
}

pub struct Shell<'a> {
    pub title: &'a str,
    pub section: Section,
    pub member: &'a Member,
    pub csrf: &'a str,
    pub flash: Option<&'a Flash>,
    pub theme: Theme,
    pub address: &'a str,
}

impl Shell<'_> {
    pub fn sections(&self) -> impl Iterator<Item = Section> {
        Section::of(self.member.role)
    }

    pub fn themes(&self) -> &'static [Theme] {
        &Theme::ALL
    }
}

/// A moment as people say it, with the exact one behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    pub exact: String,
    pub said: String,
}

impl Moment {
    pub fn of(at: SystemTime, now: SystemTime) -> Self {
        let said = match (now.duration_since(at), at.duration_since(now)) {
            (Ok(ago), _) if ago < Duration::from_secs(45) => "just now".to_owned(),
            (Ok(ago), _) => format!("{} ago", length(ago)),
            (_, Ok(ahead)) => format!("in {}", length(ahead)),
            _ => "now".to_owned(),
        };
        Self { exact: rfc3339(at), said }
    }

    pub fn maybe(at: Option<SystemTime>, now: SystemTime) -> Option<Self> {
        at.map(|at| Self::of(at, now))
    }
}

/// Rounded down to one unit: "3 hours".
pub fn length(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let unit = units.into_iter().find(|(size, _)| seconds >= *size).unwrap_or((1, "second"));
    counted((seconds / unit.0).max(1) as usize, unit.1)
}

/// "1 caller", "3 callers".
pub fn counted(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}

/// A part of a long list, and the way to the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paging {
    /// From 1.
    pub page: usize,
    pub pages: usize,
    pub total: usize,
    /// The page's address without its number.
    base: String,
}

impl Paging {
    /// The items of the page that is asked for; a number that is too high gives the last page.
    pub fn cut<T>(items: Vec<T>, size: usize, asked: &str, base: &str) -> (Vec<T>, Self) {
        let total = items.len();
        let pages = total.div_ceil(size).max(1);
        let page = asked.parse().unwrap_or(1).clamp(1, pages);
        let shown = items.into_iter().skip((page - 1) * size).take(size).collect();
        (shown, Self { page, pages, total, base: base.to_owned() })
    }

    pub fn before(&self) -> Option<String> {
        (self.page > 1).then(|| self.to(self.page - 1))
    }

    pub fn after(&self) -> Option<String> {
        (self.page < self.pages).then(|| self.to(self.page + 1))
    }

    fn to(&self, page: usize) -> String {
        let joint = if self.base.contains('?') { '&' } else { '?' };
        format!("{}{joint}page={page}", self.base)
    }
}

/// A page that asks before something ends. The form leads to its own address.
#[derive(Template)]
#[template(path = "workspace/confirm.html")]
pub struct Confirm<'a> {
    pub shell: Shell<'a>,
    /// What it is about, in a sentence or two.
    pub text: &'a str,
    /// What stops working, one line each.
    pub stops: &'a [String],
    /// Where the form leads.
    pub action: &'a str,
    /// Values that it brings along.
    pub fields: &'a [(&'a str, &'a str)],
    /// What must be ticked first.
    pub tick: Option<&'a str>,
    pub label: &'a str,
    pub back: &'a str,
    /// What was wrong with the last try.
    pub error: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_moment_is_said_in_one_unit() {
        let now = UNIX_EPOCH + Duration::from_secs(100_000_000);
        for (ahead, expected) in [
            (-10, "just now"),
            (-90, "1 minute ago"),
            (-7300, "2 hours ago"),
            (-86_400 * 40, "40 days ago"),
            (30, "in 30 seconds"),
            (3600, "in 1 hour"),
        ] {
            let at = UNIX_EPOCH + Duration::from_secs((100_000_000i64 + ahead) as u64);
            assert_eq!(Moment::of(at, now).said, expected, "{ahead}");
        }
    }

    #[test]
    fn a_long_list_is_cut_into_pages_that_lead_to_each_other() {
        let items: Vec<usize> = (0..101).collect();
        for (asked, page, first, before, after) in [
            ("", 1, 0, None, Some("/a?q=x&page=2")),
            ("2", 2, 50, Some("/a?q=x&page=1"), Some("/a?q=x&page=3")),
            ("99", 3, 100, Some("/a?q=x&page=2"), None),
            ("0", 1, 0, None, Some("/a?q=x&page=2")),
            ("x", 1, 0, None, Some("/a?q=x&page=2")),
        ] {
            let (shown, paging) = Paging::cut(items.clone(), 50, asked, "/a?q=x");
            assert_eq!((paging.page, shown[0]), (page, first), "{asked}");
            assert_eq!(paging.before().as_deref(), before, "{asked}");
            assert_eq!(paging.after().as_deref(), after, "{asked}");
        }
        let (shown, paging) = Paging::cut(Vec::<u8>::new(), 50, "3", "/a");
        assert!(shown.is_empty() && paging.pages == 1 && paging.after().is_none());
    }
}
