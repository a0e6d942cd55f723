//! Policy's no, and how to turn it into a yes.
//!
//! The texts are read by whoever wrote the workflow, so each names what was missing and the TOML,
//! or for a caller of the store the command, that mends it. An account that the caller may not use is never told apart from one that does not
//! exist. Pure.

use std::fmt;
use std::sync::Arc;

use http::Method;

use super::path::Oddity;
use super::{CallerPolicy, Kept, Lapse, Question};
use crate::host::{Authority, Host};
use crate::ids::{AccountId, AppId, CallerId};

/// Why a request may not be sent. Its text says how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// The caller has no account of the app.
    NotBound { asked: Box<Asked>, app: AppId },
    /// The caller's binding of an account of the app holds no more.
    Lapsed { asked: Box<Asked>, app: AppId, why: Lapse },
    /// The request named an account that the caller has not, existing or not.
    UnknownAccount { asked: Box<Asked>, name: String, choices: Vec<AccountId> },
    /// The caller's accounts of the app live on other hosts.
    OtherHost { asked: Box<Asked>, owners: Vec<OwnHosts> },
    /// Several accounts fit, and nothing chooses.
    Ambiguous { asked: Box<Asked>, choices: Vec<AccountId> },
    /// Deny by default. `odd` is why rules with paths did not count.
    NoRule { asked: Box<Asked>, odd: Option<Oddity> },
    /// A rule says no.
    Rule { asked: Box<Asked>, name: Arc<str> },
}

/// The question, kept for the answer's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub caller: CallerId,
    pub method: Method,
    pub host: Host,
    pub port: u16,
    pub path: String,
    pub app: Option<AppId>,
    pub kept: Kept,
}

/// An account, and the only hosts that may get its credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnHosts {
    pub account: AccountId,
    pub hosts: Vec<Authority>,
}

impl Denial {
    /// One of a closed set, for metrics, audit and problem types.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotBound { .. } => "not_bound",
            Self::Lapsed { .. } => "lapsed",
            Self::UnknownAccount { .. } => "unknown_account",
            Self::OtherHost { .. } => "other_host",
            Self::Ambiguous { .. } => "ambiguous",
            Self::NoRule { .. } => "no_rule",
            Self::Rule { .. } => "rule",
        }
    }

    /// The accounts that the request may name instead. Empty when naming one would not help.
    pub fn choices(&self) -> &[AccountId] {
        match self {
            Self::UnknownAccount { choices, .. } | Self::Ambiguous { choices, .. } => choices,
            _ => &[],
        }
    }

    pub fn asked(&self) -> &Asked {
        match self {
            Self::NotBound { asked, .. }
            | Self::Lapsed { asked, .. }
            | Self::UnknownAccount { asked, .. }
            | Self::OtherHost { asked, .. }
            | Self::Ambiguous { asked, .. }
            | Self::NoRule { asked, .. }
            | Self::Rule { asked, .. } => asked,
        }
    }

    /// The rule that said no.
    pub fn rule(&self) -> Option<&Arc<str>> {
        match self {
            Self::Rule { name, .. } => Some(name),
            _ => None,
        }
    }
}

impl std::error::Error for Denial {}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let caller = &self.asked().caller;
        match self {
            Self::NotBound { asked, app } => {
                let host = &asked.host;
                write!(
                    f,
                    "caller \"{caller}\" has no {app} account, and {host} belongs to {app}; "
                )?;
                match asked.kept {
                    Kept::InFile => {
                        let key = asked.key();
                        write!(f, "add the name of one to\n[callers.{key}]\naccounts = [\"…\"]")
                    }
                    Kept::InStore => write!(
                        f,
                        "bind one (`countersign connect {app}` makes one):\ncountersign callers bind \
                         {caller} ACCOUNT"
                    ),
                }
            }
            Self::Lapsed { app, why, .. } => write!(
                f,
                "the binding lapsed by which caller \"{caller}\" had its {app} account: {why}; \
                 whoever may use an account of {app} binds it:\ncountersign callers bind {caller} \
                 ACCOUNT"
            ),
            Self::UnknownAccount { name, choices, .. } => write!(
                f,
                "caller \"{caller}\" has no account called \"{}\" here; it has {}",
                name.escape_debug(),
                list(choices)
            ),
            Self::OtherHost { asked, owners } => {
                write!(f, "no account of caller \"{caller}\" is for {}", asked.origin())?;
                owners.iter().try_for_each(|owner| write!(f, "; {owner}"))
            }
            Self::Ambiguous { asked, choices } => {
                let (all, first) = (list(choices), first(choices));
                write!(
                    f,
                    "caller \"{caller}\" has {all} for this request; name one in the header \
                     `countersign-account` or in the proxy user name (`{caller}~{first}`), or mark a \
                     default: "
                )?;
                match asked.kept {
                    Kept::InFile => write!(
                        f,
                        "add\n[callers.{}]\nbindings = [{{ account = \"{first}\", default = true }}]",
                        asked.key()
                    ),
                    Kept::InStore => {
                        write!(f, "\ncountersign callers bind {caller} {first} --default")
                    }
                }
            }
            Self::NoRule { asked, odd } => asked.without_rule(*odd, f),
            Self::Rule { asked, name } => write!(
                f,
                "rule {name} denies caller \"{caller}\" {asked}; narrow that rule or remove it"
            ),
        }
    }
}

impl Asked {
    pub(super) fn of(policy: &CallerPolicy, question: &Question<'_>) -> Box<Self> {
        Box::new(Self {
            caller: policy.caller.clone(),
            method: question.method.clone(),
            host: question.host.clone(),
            port: question.port,
            path: question.path.to_owned(),
            app: question.app.cloned(),
            kept: policy.kept,
        })
    }

    /// The host, and the port where it says something.
    fn origin(&self) -> String {
        match self.port {
            443 => self.host.to_string(),
            port => format!("{}:{port}", self.host),
        }
    }

    /// The caller's name as a TOML key: a dot would start another table.
    fn key(&self) -> String {
        match self.caller.as_str() {
            name if name.contains('.') => format!("\"{name}\""),
            name => name.to_owned(),
        }
    }

    fn without_rule(&self, odd: Option<Oddity>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "caller \"{}\" has no rule that allows {self}", self.caller)?;
        if let Some(odd) = odd {
            write!(
                f,
                " (the path has {odd} and can be read in two ways, so rules with paths do not count)"
            )?;
        }
        if self.kept == Kept::InStore {
            return self.allowing_command(odd, f);
        }
        write!(f, "; add\n[[callers.{}.rules]]", self.key())?;
        match &self.app {
            Some(app) => write!(f, "\napp = \"{app}\"\nmethods = [\"{}\"]", self.method)?,
            None => return write!(f, "\nhost = \"{}\"", self.host.as_str()),
        }
        match odd {
            Some(_) => Ok(()),
            None => write!(f, "\npaths = [\"{}\"]", toml_text(self.path_shown())),
        }
    }

    fn allowing_command(&self, odd: Option<Oddity>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { caller, method, .. } = self;
        if self.app.is_none() {
            return write!(f, "; a rule for this host can be added on the caller's page");
        }
        write!(
            f,
            "; say it with all else that is allowed:\ncountersign callers bind {caller} ACCOUNT"
        )?;
        match odd {
            Some(_) => write!(f, " --allow {method}"),
            None => write!(f, " --allow '{method} {}'", shell_text(self.path_shown())),
        }
    }

    fn path_shown(&self) -> &str {
        if self.path.is_empty() { "/" } else { &self.path }
    }
}

/// `POST slack.com/api/chat.postMessage`, or `example.com:8443` for a host of no app.
impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.app {
            Some(_) => {
                let path = self.path_shown().escape_debug();
                write!(f, "{} {}{path}", self.method, self.origin())
            }
            None => write!(f, "{}, a host of no app", self.origin()),
        }
    }
}

impl fmt::Display for OwnHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        match hosts.is_empty() {
            true => write!(f, "\"{}\" has no host", self.account),
            false => write!(f, "\"{}\" is for {}", self.account, hosts.join(", ")),
        }
    }
}

/// Inside a basic TOML string.
fn toml_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// Inside single quotes of a shell.
fn shell_text(text: &str) -> String {
    text.replace('\'', "'\\''")
}

fn list(accounts: &[AccountId]) -> String {
    let quoted: Vec<String> = accounts.iter().map(|account| format!("\"{account}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => "none".to_owned(),
    }
}

fn first(accounts: &[AccountId]) -> &str {
    accounts.first().map_or("…", AccountId::as_str)
}
