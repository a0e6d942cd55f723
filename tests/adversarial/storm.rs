//! Tables of requests, thrown at the proxy through both doors and judged by what came out.

use futures_util::StreamExt as _;

use crate::recorder::Recorded;
use crate::siege::{A, API_KEY, Heard, PLAIN, PLAIN_KEY, Siege};

/// What must become of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A 4xx or a closed connection; no byte upstream.
    Refuse,
    /// The mistake is in the body, which streams: no request is ever finished upstream, and no
    /// answer says that all is well.
    Cut,
    /// One clean request, one answer.
    One,
    /// RFC 9112 leaves the choice.
    RefuseOrOne,
    /// Of a body's mistake.
    CutOrOne,
}

/// A case's number and its bytes. `{t}` stands for what precedes the path, `{id}` for the row's
/// mark, `{h}` for the fields that every request needs: in a tunnel nothing and `Host`, outside
/// scheme and host, `Host` and the caller's proof.
pub type Row = (&'static str, &'static [u8], Want);

/// Where a row is sent.
#[derive(Clone, Copy, Debug)]
pub enum Door {
    /// In TLS, in a CONNECT tunnel to [`A`].
    Tunnel,
    /// In absolute-form, to [`PLAIN`].
    Plain,
}

/// Sends every row through both doors, and fails with all that went wrong.
pub async fn storm(siege: &Siege, table: &str, rows: &[Row]) {
    let doors = [Door::Tunnel, Door::Plain];
    let all = rows.iter().enumerate().flat_map(|row| doors.map(|door| (row, door)));
    let heard: Vec<_> = futures_util::stream::iter(all)
        .map(|((at, row), door)| async move {
            let mark = format!("x{table}{at}{door:?}x");
            let heard = send(siege, &render(siege, row.1, door, &mark), door).await;
            (row, door, mark, heard)
        })
        .buffered(12)
        .collect()
        .await;
    let wrong: Vec<String> = heard
        .iter()
        .filter_map(|(row, door, mark, heard)| {
            let why = judge(siege, row.2, *door, mark, heard)?;
            let bytes = row.1[..row.1.len().min(300)].escape_ascii().to_string();
            let answer = heard.text().chars().take(500).collect::<String>();
            Some(format!("{} {door:?}: {why}\n  {bytes}\n  heard {answer:?}", row.0))
        })
        .collect();
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

async fn send(siege: &Siege, bytes: &[u8], door: Door) -> Heard {
    match door {
        Door::Tunnel => siege.say_inside(A, bytes).await,
        Door::Plain => siege.say(bytes).await,
    }
}

fn render(siege: &Siege, bytes: &[u8], door: Door, mark: &str) -> Vec<u8> {
    let (target, fields) = match door {
        Door::Tunnel => (String::new(), format!("Host: {A}\r\n")),
        Door::Plain => (format!("http://{PLAIN}"), format!("Host: {PLAIN}\r\n{}", siege.proof())),
    };
    let host = if matches!(door, Door::Tunnel) { A } else { PLAIN };
    let proof = if matches!(door, Door::Tunnel) { String::new() } else { siege.proof() };
    let holes = [
        ("{t}", target),
        ("{h}", fields),
        ("{id}", mark.to_owned()),
        ("{host}", host.to_owned()),
        ("{p}", proof),
    ];
    holes.iter().fold(bytes.to_vec(), |bytes, (hole, value)| replaced(&bytes, hole, value))
}

fn replaced(bytes: &[u8], hole: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut from = 0;
    for at in memchr::memmem::find_iter(bytes, hole) {
        out.extend_from_slice(&bytes[from..at]);
        out.extend_from_slice(value.as_bytes());
        from = at + hole.len();
    }
    out.extend_from_slice(&bytes[from..]);
    out
}

fn judge(siege: &Siege, want: Want, door: Door, mark: &str, heard: &Heard) -> Option<String> {
    let key = if matches!(door, Door::Tunnel) { API_KEY } else { PLAIN_KEY };
    let mut reached = siege.tls.marked(mark);
    reached.extend(siege.clear.marked(mark));
    if !siege.beta.marked(mark).is_empty() || !siege.trap.marked(mark).is_empty() {
        return Some("it reached a host that it may not".to_owned());
    }
    let refused = heard.is_refusal() && reached.is_empty();
    let one = || not_one_clean(&reached, key, heard);
    match want {
        Want::Refuse if refused => None,
        Want::Refuse => Some(format!("not refused; upstream {}", shown(&reached))),
        Want::One => one(),
        Want::RefuseOrOne if refused => None,
        Want::RefuseOrOne => one(),
        Want::Cut => not_cut(&reached, heard),
        Want::CutOrOne if not_cut(&reached, heard).is_none() => None,
        Want::CutOrOne => one(),
    }
}

fn not_one_clean(reached: &[Recorded], key: &str, heard: &Heard) -> Option<String> {
    let [request] = reached else {
        return Some(format!("{} requests upstream: {}", reached.len(), shown(reached)));
    };
    if let Some(what) = request.ambiguity() {
        return Some(format!("ambiguous ({what}): {}", shown(reached)));
    }
    if request.count(key) != 1 {
        return Some(format!("the credential {} times", request.count(key)));
    }
    // A surplus that is no request may be refused after the one answer.
    let good = heard.statuses().iter().filter(|status| **status < 400).count();
    (good > 1 || heard.status().is_none_or(|status| status >= 500))
        .then(|| format!("answers {:?}", heard.statuses()))
}

fn not_cut(reached: &[Recorded], heard: &Heard) -> Option<String> {
    if reached.iter().any(|request| request.complete) || reached.len() > 1 {
        return Some(format!("a whole request upstream: {}", shown(reached)));
    }
    let refused = heard.status().is_none_or(|status| (400..500).contains(&status));
    (!refused || !heard.closed)
        .then(|| format!("answers {:?}, closed {}", heard.statuses(), heard.closed))
}

fn shown(reached: &[Recorded]) -> String {
    let raw = reached
        .iter()
        .map(|request| request.raw[..request.raw.len().min(400)].escape_ascii().to_string());
    format!("{:?}", raw.collect::<Vec<_>>())
}
