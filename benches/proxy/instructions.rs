//! Instructions per request, counted by valgrind: the figure that neither a busy machine nor its
//! caches move. Two runs of different length; their difference is free of start and handshakes.

use std::path::Path;

use crate::client::fixed;
use crate::subject::{Ground, Subject, find};

const CONNECTIONS: usize = 8;
/// Long enough for the work that a start leaves behind, which is then in both.
const SHORT: usize = 250;
const LONG: usize = 1250;

pub async fn print(mut ground: Ground<'_>, only: &str) {
    if find("valgrind").is_none() {
        eprintln!("valgrind is not installed");
        return;
    }
    println!("\n{:<18} {:>15} {:>15}", "instructions/req", "plain", "TLS");
    // Those that end on SIGTERM and can be told their origin; the names as `Subject::all` has them.
    for name in ["bare hyper", "countersign", "nginx"] {
        if !name.starts_with(only) {
            continue;
        }
        let plain = per_request(&mut ground, name, "plain").await;
        let tls = per_request(&mut ground, name, "tls").await;
        println!("{name:<18} {plain:>15} {tls:>15}");
    }
}

async fn per_request(ground: &mut Ground<'_>, name: &str, route: &str) -> String {
    let short = total(ground, name, route, SHORT).await;
    let long = total(ground, name, route, LONG).await;
    let difference = short.zip(long).map(|(short, long)| long.saturating_sub(short));
    let requests = ((LONG - SHORT) * CONNECTIONS) as u64;
    difference.map_or_else(|| "–".into(), |all| (all / requests).to_string())
}

/// Of a whole run with `count` requests per connection.
async fn total(ground: &mut Ground<'_>, name: &str, route: &str, count: usize) -> Option<u64> {
    let file = match std::env::var_os("BENCH_CALLGRIND") {
        Some(folder) => {
            Path::new(&folder).join(format!("{}.{route}.{count}", name.replace(' ', "-")))
        }
        None => ground.folder.join("callgrind.out"),
    };
    ground.callgrind = Some(file.clone());
    let subject = Subject::all(ground, name).pop()?;
    let route = if route == "tls" { &subject.tls } else { &subject.plain };
    if let Err(error) = fixed(route, CONNECTIONS, count).await {
        eprintln!("{name}: {error}");
    }
    subject.end();
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
}
