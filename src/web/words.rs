//! Plain words for people: labels of names, and scopes, because whoever agrees should know to what.
//! Pure.
//!
//! Providers name scopes in a few habits (`chat:write`, `drive.readonly`, `read_user`, a URL); what
//! fits none of them is shown as it is.

/// With a capital, as a label or a sentence begins.
pub fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(chars).collect()
}

/// A name as a label: `project_management` is "Project management".
pub fn label(name: &str) -> String {
    capitalised(&name.replace(['_', '-'], " "))
}

/// A scope as people read it, in the words of [`spoken`], and as the provider spells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoken {
    pub words: String,
    pub scope: String,
}

pub fn spoken(scope: &str) -> Spoken {
    let words = known(scope).map_or_else(|| by_habit(scope), str::to_owned);
    Spoken { words, scope: scope.to_owned() }
}

fn known(scope: &str) -> Option<&'static str> {
    Some(match scope {
        "openid" => "Know who you are",
        "email" | "https://www.googleapis.com/auth/userinfo.email" => "See your e-mail address",
        "profile" | "https://www.googleapis.com/auth/userinfo.profile" => {
            "See your name and picture"
        }
        "offline_access" | "refresh_token" | "offline" => "Stay connected while you are away",
        "https://mail.google.com/" => "Read, write and send your mail",
        "repo" => "Read and write your repositories, private ones too",
        "gist" => "Write gists",
        "full" | "api" | "all" => "Everything that you can do yourself",
        "read" => "Read what you can see",
        "write" => "Write where you can write",
        _ => return None,
    })
}

fn by_habit(scope: &str) -> String {
    let end = scope.trim_end_matches('/').rsplit('/').next().unwrap_or(scope);
    let parts: Vec<&str> =
        end.split([':', '.', '_', '-', '/']).filter(|part| !part.is_empty()).collect();
    let (mut does, mut what): (Option<&str>, Vec<String>) = (None, Vec::new());
    for part in &parts {
        match verb(&part.to_lowercase()) {
            Some(verb) => does = Some(does.map_or(verb, |before| stronger(before, verb))),
            None => what.push(separated(part)),
        }
    }
    match (does, what.is_empty()) {
        (Some(does), false) => format!("{does} {}", what.join(" ")),
        (None, false) => capital(&what.join(" ")),
        _ => scope.to_owned(),
    }
}

fn verb(word: &str) -> Option<&'static str> {
    Some(match word {
        "read" | "readonly" | "view" | "list" | "get" => "Read",
        "write" | "edit" | "update" | "modify" => "Write",
        "readwrite" => "Read and write",
        "send" => "Send",
        "create" => "Create",
        "delete" => "Delete",
        "manage" | "admin" => "Manage",
        "history" => "Read the history of",
        _ => return None,
    })
}

/// `drive.read.write` writes.
fn stronger(before: &'static str, after: &'static str) -> &'static str {
    match (before, after) {
        ("Read", "Write") | ("Write", "Read") => "Read and write",
        ("Read", other) | (other, "Read") => other,
        (before, _) => before,
    }
}

/// `FilesAll` is two words.
fn separated(part: &str) -> String {
    let mut words = String::new();
    let mut lower_before = false;
    for c in part.chars() {
        if c.is_uppercase() && lower_before {
            words.push(' ');
        }
        lower_before = c.is_lowercase();
        words.extend(c.to_lowercase());
    }
    words
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_said_in_words() {
        for (scope, words) in [
            ("chat:write", "Write chat"),
            ("channels:history", "Read the history of channels"),
            ("users:read", "Read users"),
            ("https://www.googleapis.com/auth/drive.readonly", "Read drive"),
            ("https://www.googleapis.com/auth/spreadsheets", "Spreadsheets"),
            ("Files.ReadWrite.All", "Read and write files all"),
            ("crm.objects.contacts.read", "Read crm objects contacts"),
            ("read_user", "Read user"),
            ("mailSettings.read", "Read mail settings"),
            ("offline_access", "Stay connected while you are away"),
            ("repo", "Read and write your repositories, private ones too"),
            ("read:write", "read:write"),
            (":::", ":::"),
            ("", ""),
        ] {
            assert_eq!(spoken(scope).words, words, "{scope}");
        }
    }
}
