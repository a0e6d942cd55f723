//! Finding the one thing that somebody names by its id or name.

use anyhow::bail;

/// What is looked for, as messages call it.
pub struct Kind {
    /// `OAuth client`
    pub one: &'static str,
    /// `countersign oauth-clients list`
    pub list: &'static str,
}

/// An id goes before a name, so that nobody takes a thing's place by calling another so.
///
/// # Errors
/// When there is none, or several have the name.
pub fn only<T>(
    all: Vec<T>,
    named: &str,
    kind: &Kind,
    id_and_name: impl Fn(&T) -> (&str, &str),
) -> anyhow::Result<T> {
    let Kind { one, list } = kind;
    let by_id = all.iter().position(|thing| id_and_name(thing).0 == named);
    let fits = |thing: &T| match by_id {
        Some(_) => id_and_name(thing).0 == named,
        None => id_and_name(thing).1 == named,
    };
    let mut found: Vec<T> = all.into_iter().filter(fits).collect();
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(_), false) => bail!("several {one}s are called \"{named}\"; say the id"),
        (None, _) => bail!("there is no {one} \"{named}\"; `{list}` shows them"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_goes_before_a_name_and_a_name_of_several_is_refused() {
        let kind = Kind { one: "thing", list: "list" };
        let find = |named: &str| {
            let all = vec![("a1", "x"), ("a2", "y"), ("a3", "y"), ("a4", "a1")];
            only(all, named, &kind, |thing| *thing).map(|thing| thing.0).map_err(|e| e.to_string())
        };
        assert_eq!(find("a1"), Ok("a1"));
        assert_eq!(find("x"), Ok("a1"));
        assert_eq!(find("y"), Err("several things are called \"y\"; say the id".to_owned()));
        assert_eq!(find("z"), Err("there is no thing \"z\"; `list` shows them".to_owned()));
    }
}
