use super::*;

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use parking_lot::Mutex;

use crate::telemetry::journal::open_private;
use crate::telemetry::trail::{self, Rest, Search};
use crate::telemetry::volumes::{self, Volume};
use crate::telemetry::{
    Finding, Flaw, LogSettings, OpenError, Report, Settings, Sink, Telemetry, verify,
};

/// How many bytes each test's disk still takes at once.
static ROOMS: Mutex<Option<HashMap<PathBuf, Arc<AtomicU64>>>> = Mutex::new(None);

pub(in crate::telemetry) fn room_of(path: &Path) -> Arc<AtomicU64> {
    let mut rooms = ROOMS.lock();
    let room = rooms.get_or_insert_default().entry(path.to_owned());
    room.or_insert_with(|| Arc::new(AtomicU64::new(u64::MAX))).clone()
}

struct House {
    dir: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("audit.jsonl")
    }

    fn open(&self, strict: bool, queue: usize) -> Result<Telemetry, SetupError> {
        self.open_with(strict, queue, 0)
    }

    fn open_with(
        &self,
        strict: bool,
        queue: usize,
        max_file_bytes: u64,
    ) -> Result<Telemetry, SetupError> {
        let log = LogSettings {
            style: Style::Json,
            filter: "info".to_owned(),
            requests: false,
            sink: Sink::Memory(Arc::default()),
        };
        let audit = Some(AuditSettings { file: self.file(), strict, queue, max_file_bytes });
        Telemetry::open(Settings { log, audit, clock: Clock::System })
    }

    fn start(&self) -> Telemetry {
        self.open(false, 1000).expect("the audit opens")
    }

    /// Runs once and leaves some lines behind.
    fn with_lines(count: usize) -> Self {
        let house = Self::new();
        let telemetry = house.start();
        (0..count).for_each(|_| telemetry.event(&STARTED));
        drop(telemetry);
        house
    }

    /// A file is full after a few of these lines.
    fn with_full_files(count: usize) -> Self {
        let house = Self::new();
        (0..count).for_each(|_| house.one_line_more(1000));
        house
    }

    fn one_line_more(&self, max_file_bytes: u64) {
        let telemetry = self.open_with(false, 10, max_file_bytes).expect("the audit opens");
        telemetry.event(&STARTED);
    }

    fn full(&self) -> Vec<Volume> {
        volumes::full(&self.file()).expect("a readable folder")
    }

    fn report(&self) -> Report {
        verify(&self.file()).expect("readable files")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.file()).expect("the audit file")
    }

    fn types(&self) -> Vec<String> {
        let type_of = |line: &str| {
            let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
            event["type"].as_str().expect("a type").to_owned()
        };
        self.text().lines().map(type_of).collect()
    }

    fn flaws(&self) -> Vec<Flaw> {
        let report = verify(&self.file()).expect("a readable file");
        report.findings.into_iter().map(|finding| finding.flaw).collect()
    }
}

const STARTED: AuditEvent<'static> = AuditEvent::ServerStarted { version: "1" };

#[test]
fn the_chain_goes_on_after_a_restart() {
    let house = House::with_lines(3);
    let telemetry = house.start();
    telemetry.event(&AuditEvent::ServerStopped { reason: "SIGTERM\n" });
    drop(telemetry);
    assert_eq!(house.flaws(), []);
    let report = verify(&house.file()).expect("a readable file");
    assert_eq!((report.lines, report.last.seq, report.head), (4, 4, true));
    let mode = std::fs::metadata(house.file()).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_second_instance_is_refused() {
    let house = House::new();
    let _first = house.start();
    let second = house.open(false, 10);
    assert!(matches!(second, Err(SetupError::Audit(OpenError::InUse { .. }))));
}

#[test]
fn a_torn_last_line_is_kept_aside_and_recorded() {
    let house = House::with_lines(2);
    let mut file = open_private(&house.file()).expect("the file");
    file.write_all(b"{\"seq\":3,\"ts\":\"20").expect("room");
    drop(file);
    assert_eq!(house.flaws(), [Flaw::Torn]);
    drop(house.start());
    assert_eq!(house.types(), ["server_started", "server_started", "torn_line"]);
    assert_eq!(house.flaws(), []);
    let torn = std::fs::read_to_string(house.dir.path().join("audit.torn")).expect("the side file");
    assert_eq!(torn, "{\"seq\":3,\"ts\":\"20\n");
}

#[test]
fn a_tail_that_was_cut_while_stopped_stays_visible_after_a_restart() {
    let house = House::with_lines(4);
    let text = house.text();
    let kept: String = text.split_inclusive('\n').take(2).collect();
    std::fs::write(house.file(), kept).expect("room");
    assert_eq!(house.flaws(), [Flaw::TailCut { expected: 4 }]);
    drop(house.start());
    assert_eq!(house.types().last().map(String::as_str), Some("tail_missing"));
    assert_eq!(house.flaws(), [Flaw::TailMissing]);
}

#[test]
fn a_file_that_is_no_audit_is_left_alone() {
    let house = House::new();
    std::fs::write(house.file(), "precious\n").expect("room");
    let opened = house.open(false, 10);
    assert!(matches!(opened, Err(SetupError::Audit(OpenError::NotAudit { .. }))));
    assert_eq!(house.text(), "precious\n");
}

#[tokio::test]
async fn a_strict_event_is_on_the_disk_when_it_returns() {
    let house = House::new();
    let telemetry = house.open(true, 10).expect("the audit opens");
    assert!(telemetry.is_strict());
    telemetry.strict(&STARTED).await.expect("a disk with room");
    assert_eq!(house.types(), ["server_started"]);
    assert_eq!(house.flaws(), []);
}

#[tokio::test]
async fn a_full_disk_fails_strict_events_and_loses_no_other_and_it_recovers() {
    let house = House::new();
    let room = room_of(&house.file());
    let telemetry = house.open(true, 1000).expect("the audit opens");
    telemetry.strict(&STARTED).await.expect("a disk with room");
    room.store(100, Ordering::Relaxed);
    telemetry.event(&AuditEvent::CaCreated { fingerprint: "f" });
    let refused = telemetry.strict(&STARTED).await;
    assert!(matches!(refused, Err(AuditUnavailable::Disk(_))), "{refused:?}");
    assert!(!telemetry.audit_is_well());
    assert_eq!(house.flaws(), [], "what was half written is cut off again");
    room.store(u64::MAX, Ordering::Relaxed);
    while telemetry.strict(&AuditEvent::ServerStopped { reason: "" }).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(telemetry.audit_is_well());
    drop(telemetry);
    assert_eq!(house.types(), ["server_started", "ca_created", "server_stopped"]);
    assert_eq!(house.flaws(), []);
}

#[tokio::test]
async fn what_the_queue_cannot_hold_is_counted_in_the_chain() {
    let house = House::new();
    let room = room_of(&house.file());
    let telemetry = house.open(false, 5).expect("the audit opens");
    room.store(0, Ordering::Relaxed);
    telemetry.event(&STARTED);
    telemetry.flush().await;
    (0..20).for_each(|_| telemetry.event(&STARTED));
    room.store(u64::MAX, Ordering::Relaxed);
    drop(telemetry);
    let telemetry = house.start();
    telemetry.flush().await;
    drop(telemetry);
    let report = verify(&house.file()).expect("a readable file");
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.lost + report.lines - 1, 21, "{report:?}");
}

#[tokio::test]
async fn a_stranger_who_fails_a_lot_writes_a_few_lines() {
    let house = House::new();
    let telemetry = house.start();
    let (reason, client) = (AuthFailure::Invalid, None);
    let failure = AuditEvent::AuthFailed { reason, claimed: Some("a\u{1b}\n"), client, count: 1 };
    (0..10_000).for_each(|_| telemetry.event(&failure));
    drop(telemetry);
    let text = house.text();
    assert!(text.lines().count() < 100, "{}", text.lines().count());
    let count_of = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
        event["count"].as_u64().expect("a count")
    };
    assert_eq!(text.lines().map(count_of).sum::<u64>(), 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_strict_events_share_syncs_and_all_are_there() {
    let house = House::new();
    let telemetry = Arc::new(house.open(true, 10_000).expect("the audit opens"));
    let tasks: Vec<_> = (0..500)
        .map(|_| {
            let telemetry = telemetry.clone();
            tokio::spawn(async move { telemetry.strict(&STARTED).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic").expect("a disk with room");
    }
    let report = verify(&house.file()).expect("a readable file");
    assert_eq!((report.lines, report.is_sound()), (500, true));
}

#[test]
fn a_full_file_is_put_aside_and_the_chain_goes_on_in_the_next() {
    let house = House::with_full_files(20);
    let full = house.full();
    assert!(full.len() > 2, "{full:?}");
    let mut next = 1;
    for Volume { path, first, last } in &full {
        assert_eq!(*first, next);
        next = last + 1;
        let metadata = std::fs::metadata(path).expect("there");
        assert!(metadata.len() < 2000 && metadata.permissions().mode() & 0o777 == 0o600);
    }
    let text = house.text();
    let before = full.last().and_then(|volume| volume.path.file_name()).expect("a name");
    let first = text.lines().next().expect("a line");
    assert!(first.starts_with(&format!("{{\"seq\":{next},")), "{first}");
    assert!(first.contains(&format!("\"after\":\"{}\"", before.to_string_lossy())), "{first}");

    let report = house.report();
    assert_eq!((report.is_sound(), report.head, report.first), (true, true, 1), "{report:?}");
    assert_eq!((report.files, report.lines), (full.len() + 1, report.last.seq));
    assert_eq!(report.lines as usize, 20 + full.len(), "20 events, and a line for each new file");
}

#[test]
fn what_is_looked_for_is_found_in_all_files() {
    let house = House::with_full_files(20);
    let all = house.report().lines;
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = Search { want: 4, before, most_bytes: u64::MAX, ..Search::default() };
        let found = trail::search(&house.file(), &page, |_| true).expect("readable");
        seen.extend(found.entries.iter().map(|entry| entry.seq));
        let Rest::Before(next) = found.rest else { break };
        before = Some(next);
    }
    assert_eq!(seen, (1..=all).rev().collect::<Vec<_>>());
    let bounded = Search { want: 999, most_bytes: 1500, ..Search::default() };
    let found = trail::search(&house.file(), &bounded, |_| true).expect("readable");
    assert!(matches!(found.rest, Rest::Unread { .. }), "the bound is of all files: {found:?}");
    for seq in 1..=all {
        let entry = trail::entry(&house.file(), seq).expect("readable").expect("there");
        assert_eq!(entry.seq, seq);
    }
    assert_eq!(trail::entry(&house.file(), all + 1).expect("readable"), None);
}

#[test]
fn old_files_may_be_moved_away_and_nothing_else_may_be_missing() {
    let house = House::with_full_files(30);
    let full = house.full();
    std::fs::remove_file(&full[0].path).expect("there");
    let report = house.report();
    assert!(report.is_sound() && report.first == full[1].first, "{report:?}");

    let text = std::fs::read_to_string(&full[2].path).expect("there");
    let without_one: Vec<&str> = text.split_inclusive('\n').skip(1).collect();
    std::fs::write(&full[2].path, without_one.concat()).expect("room");
    let (expected, found) = (full[2].first, full[2].first + 1);
    let file = full[2].path.file_name().expect("a name").to_string_lossy().into_owned();
    let flaw = Flaw::Sequence { expected, found };
    assert_eq!(house.report().findings, [Finding { file, line: 1, flaw }]);

    std::fs::remove_file(&full[2].path).expect("there");
    let flaw = Flaw::Sequence { expected, found: full[3].first };
    assert_eq!(house.flaws(), [flaw], "a whole file in the middle");
}

#[test]
fn a_first_line_that_was_removed_is_no_file_that_was_moved_away() {
    let house = House::with_full_files(20);
    house.full().iter().for_each(|volume| std::fs::remove_file(&volume.path).expect("there"));
    assert_eq!(house.flaws(), []);
    let text = house.text();
    let rest: String = text.split_inclusive('\n').skip(1).collect();
    assert!(!rest.is_empty());
    std::fs::write(house.file(), rest).expect("room");
    assert!(matches!(house.flaws()[0], Flaw::Sequence { expected: 1, .. }));
}

#[test]
fn a_stop_while_a_file_was_put_aside_leaves_one_audit() {
    let house = House::with_full_files(8);
    let last = house.report().last.seq;
    let first = house.full().last().map_or(1, |volume| volume.last + 1);
    let second_name = Volume::of(&house.file(), first, last).path;
    std::fs::hard_link(house.file(), &second_name).expect("a second name");
    std::fs::write(house.file().with_extension("new"), "{\"half").expect("room");
    assert_eq!(house.flaws(), [], "as a reader finds it while it is put aside");
    for _ in 0..8 {
        house.one_line_more(1000);
    }
    let full = house.full();
    assert!(full.iter().all(|volume| volume.path != second_name), "{full:?}");
    let report = house.report();
    assert!(report.is_sound() && report.files == full.len() + 1, "{report:?}");
}

#[test]
fn without_its_newest_file_the_audit_goes_on_after_the_last_and_says_so() {
    let house = House::with_full_files(8);
    let last = house.full().last().expect("a full file").last;
    std::fs::remove_file(house.file()).expect("there");
    house.one_line_more(0);
    assert_eq!(house.types()[0], "tail_missing");
    let report = house.report();
    assert_eq!(report.findings.len(), 1, "{report:?}");
    assert_eq!((&report.findings[0].flaw, report.last.seq), (&Flaw::TailMissing, last + 2));
}

#[test]
fn where_a_file_cannot_be_put_aside_it_goes_on_in_the_same() {
    let house = House::new();
    let elsewhere = house.dir.path().join("elsewhere");
    std::os::unix::fs::symlink(&elsewhere, house.file()).expect("a link");
    (0..12).for_each(|_| house.one_line_more(1000));
    assert_eq!(house.full(), []);
    let report = house.report();
    assert_eq!((report.is_sound(), report.lines, report.files), (true, 12, 1));
    assert!(std::fs::symlink_metadata(house.file()).expect("there").is_symlink());
}

#[test]
fn a_file_that_comes_through_a_pipe_is_verified_alone() {
    use std::os::fd::AsRawFd as _;
    let house = House::with_full_files(20);
    let full = house.full();
    let mut text = std::fs::read(&full[1].path).expect("there");
    for altered in [false, true] {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        if altered {
            let middle = text.len() / 2;
            text[middle] ^= 1;
        }
        writer.write_all(&text).expect("room in the pipe");
        drop(writer);
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        let report = verify(Path::new(&path)).expect("readable");
        let lines = full[1].last - full[1].first + 1;
        assert_eq!((report.is_sound(), report.lines), (!altered, lines), "{report:?}");
    }
}
