//! A store that is locked, away, or killed: nothing is lost, and it goes on without a restart.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use countersign::vault::{Change, Error, Filter, MasterKey};
use sqlx::{AnyConnection, Connection as _, Executor as _};

use crate::house::{House, connected, stored};

fn is_unavailable<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Unavailable { .. }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_database_is_waited_for_and_then_told() {
    let house = House::sqlite();
    let vault = house.open().await;
    let account = connected(&vault).await;
    let url = format!("sqlite://{}?mode=rw", house.file().display());
    let mut other = AnyConnection::connect(&url).await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let waiting = {
        let vault = vault.clone();
        tokio::spawn(async move { vault.set_sealed_item("a", &"b".to_owned().into()).await })
    };
    assert_eq!(stored(&vault, &account.id).await.0, "at-1", "reading goes on");
    assert!(is_unavailable(&waiting.await.unwrap()));
    other.execute("ROLLBACK").await.unwrap();
    vault.set_sealed_item("a", &"b".to_owned().into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_moved_away_is_noticed_and_works_again_when_it_is_back() {
    let house = House::sqlite();
    let vault = house.open().await;
    let account = connected(&vault).await;
    let away = house.folder.path().join("away");
    std::fs::rename(house.file(), &away).unwrap();
    assert!(is_unavailable(&vault.set_sealed_item("a", &"b".to_owned().into()).await));
    assert!(is_unavailable(&vault.account(&account.id).await));
    std::fs::rename(&away, house.file()).unwrap();
    vault.set_sealed_item("a", &"b".to_owned().into()).await.unwrap();
    assert_eq!(stored(&vault, &account.id).await.0, "at-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_and_is_over_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let mut house = House::sqlite();
    house.at(disk.folder.path().join("countersign.db"));
    let vault = house.open().await;
    let account = connected(&vault).await;
    let ballast = disk.folder.path().join("ballast");
    let _ = std::fs::write(&ballast, vec![0; 16 << 20]);
    let mut refused = false;
    for i in 0..200 {
        let item = "x".repeat(20_000);
        refused = is_unavailable(&vault.set_sealed_item(&format!("{i}"), &item.into()).await);
        if refused {
            break;
        }
    }
    assert!(refused, "the disk was never full");
    assert_eq!(stored(&vault, &account.id).await.0, "at-1", "reading goes on");
    std::fs::remove_file(&ballast).unwrap();
    vault.set_sealed_item("last", &"x".repeat(20_000).into()).await.unwrap();
    vault.close().await;
}

/// A file system of two megabytes, where we may mount one.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            eprintln!("skipped: a small disk can only be mounted as root");
            return None;
        }
        Some(Self { folder })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_server_that_dies_and_comes_back_is_used_again() {
    let Some(server) = crate::postgres::server() else { return };
    let house = House::postgres().await.unwrap();
    let vault = house.open().await;
    let account = connected(&vault).await;
    let mut feed = vault.changes();
    assert_eq!(feed.next().await, [Change::Everything]);
    server.kill();
    assert!(is_unavailable(&vault.account(&account.id).await));
    assert!(tokio::time::timeout(Duration::from_secs(1), feed.next()).await.is_err());
    server.revive();
    let began = Instant::now();
    while is_unavailable(&vault.set_sealed_item("a", &"b".to_owned().into()).await) {
        assert!(began.elapsed() < Duration::from_secs(20), "it is never used again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(stored(&vault, &account.id).await.0, "at-1");
    assert_eq!(feed.next().await, [Change::Everything]);
}

/// The child writes accounts and says each id when it is durable, until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_to_be_stored_is_there_after_a_kill() {
    let house = House::sqlite();
    house.open().await.close().await;
    let mut promised = Vec::new();
    for _ in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "outage::child_that_writes", "--ignored", "--nocapture"])
            .env("VAULT_FILE", house.file())
            .env("VAULT_KEY", house.key.to_text().expose())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = std::io::BufReader::new(child.stdout.take().unwrap());
        let ids = std::io::BufRead::lines(out).map_while(Result::ok);
        let ids = ids.filter_map(|line| line.split("stored ").nth(1).map(str::to_owned));
        promised.extend(ids.take(40));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(promised.len(), 200);
    let vault = house.open().await;
    for id in &promised {
        assert_eq!(stored(&vault, &id.parse().unwrap()).await.1, "rt-1");
    }
    assert!(vault.accounts(&Filter::default()).await.unwrap().len() >= promised.len());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the child of another test"]
async fn child_that_writes() {
    let (Ok(file), Ok(key)) = (std::env::var("VAULT_FILE"), std::env::var("VAULT_KEY")) else {
        return;
    };
    let mut house = House::sqlite();
    house.at(file.into());
    house.key = MasterKey::from_text(&key.into()).unwrap();
    let vault = house.open().await;
    loop {
        println!("\nstored {}", connected(&vault).await.id);
    }
}

/// 167 refreshes a second are 100,000 accounts with tokens of ten minutes. The limit is far below
/// what an idle machine does, so that a busy one passes.
#[tokio::test(flavor = "multi_thread")]
async fn refreshes_that_come_together_share_the_disk() {
    let house = House::sqlite();
    let vault = house.open().await;
    let mut accounts = Vec::new();
    for _ in 0..200 {
        accounts.push(connected(&vault).await);
    }
    let began = Instant::now();
    let work: Vec<_> = accounts
        .into_iter()
        .map(|account| {
            let vault = vault.clone();
            tokio::spawn(async move { crate::refresh::renew(&vault, &account).await })
        })
        .collect();
    for refresh in work {
        refresh.await.unwrap();
    }
    let per_second = 200.0 / began.elapsed().as_secs_f64();
    println!("{per_second:.0} refreshes a second");
    assert!(per_second > 50.0, "{per_second}");
}
