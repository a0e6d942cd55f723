//! The same tests on PostgreSQL: this test program runs itself once more, in one process, on one
//! server in which each test has a database of its own.

use std::process::Stdio;
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use tokio::process::Command;
use tokio::time::timeout;

/// Names a database on the server that the second run is to use.
const SERVER: &str = "COUNTERSIGN_TEST_SERVER";
/// What touches the store. The SDKs have runs of their own on it, on two nodes.
const TOUCHING: [&str; 5] = ["accounts::", "tokens::", "overrides::", "page::", "product::"];

/// Lines of the configuration, where this is the second run.
pub async fn vault() -> String {
    let Ok(server) = std::env::var(SERVER) else { return String::new() };
    let url = database(&server).await;
    let key = "0123456789abcdef".repeat(4);
    format!("[vault]\nurl = \"{url}\"\nkey = {{ value = \"{key}\" }}\n")
}

/// A new, empty database on the same server.
async fn database(server: &str) -> String {
    let name = format!("test_{:x}", countersign::random::bits());
    let mut admin = PgConnection::connect(server).await.unwrap();
    let create = format!("CREATE DATABASE {name}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut admin).await.unwrap();
    let (_, query) = server.split_once('?').expect("it is reached by a socket");
    format!("postgres:///{name}?{query}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_touches_the_store_holds_on_postgresql_too() {
    let Some(server) = crate::postgres::server() else { return };
    let url = server.database().await;
    let mut again = Command::new(std::env::current_exe().unwrap());
    again
        .args(TOUCHING)
        // It makes a thousand accounts, all alike.
        .args(["--skip", "who_has_a_thousand", "--test-threads", "2"])
        .env(SERVER, url.expose())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(Duration::from_secs(240), again.output()).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complaint}");
    let ran = said.matches("... ok").count();
    assert!(ran > 35, "only {ran} tests ran:\n{said}");
}
