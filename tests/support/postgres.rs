//! A PostgreSQL server of the test process's own, in a folder that goes away with it.
//!
//! `initdb` runs once per target directory; its result is kept as an archive that every process
//! unpacks (nextest runs each test in a process of its own). The server listens on a socket in
//! its folder alone. A shell stands over it and reads commands; when this process ends, however
//! it ends, the shell reads the end of its input, stops the server and removes the folder.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use countersign::secret::Secret;
use sqlx::{Connection as _, PgConnection};

/// The process's server, started when it is first asked for; `None` where PostgreSQL is not
/// installed.
pub fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER.get_or_init(|| Binaries::find().map(|found| Server::start(&found))).as_ref()
}

pub struct Server {
    folder: PathBuf,
    shell: Mutex<Child>,
    databases: AtomicU64,
}

impl Server {
    /// A new, empty database.
    pub async fn database(&self) -> Secret {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut admin = self.connect("postgres").await;
        let create = format!("CREATE DATABASE {name}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut admin).await.unwrap();
        self.url(&name)
    }

    /// Ends the server as a crash would.
    pub fn kill(&self) {
        self.tell("kill");
        while self.folder.join("data/postmaster.pid").exists() && self.listens() {
            std::thread::sleep(TICK);
        }
    }

    /// Starts it again after [`Server::kill`].
    pub fn revive(&self) {
        self.tell("start");
    }

    fn start(binaries: &Binaries) -> Self {
        let archive = binaries.archive();
        let folder = tempfile::Builder::new().prefix("countersign-pg-").tempdir().unwrap().keep();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        binaries.give(&folder);
        run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&folder));
        let shell = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&folder)
            .args(binaries.as_owner(&binaries.folder.join("postgres")))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { folder, shell: Mutex::new(shell), databases: AtomicU64::new(0) };
        server.tell("start");
        server
    }

    fn tell(&self, command: &str) {
        let mut shell = self.shell.lock().unwrap();
        let input = shell.stdin.as_mut().expect("the shell's input is a pipe");
        writeln!(input, "{command}").expect("the shell stands over the server");
    }

    fn listens(&self) -> bool {
        std::os::unix::net::UnixStream::connect(self.folder.join(".s.PGSQL.5432")).is_ok()
    }

    fn url(&self, database: &str) -> Secret {
        let folder = self.folder.display();
        format!("postgres:///{database}?host={folder}&user=postgres").into()
    }

    /// The server takes a moment to begin.
    async fn connect(&self, database: &str) -> PgConnection {
        for _ in 0..1500 {
            if let Ok(connection) = PgConnection::connect(self.url(database).expose()).await {
                return connection;
            }
            tokio::time::sleep(TICK).await;
        }
        panic!("PostgreSQL did not start: see {}/log", self.folder.display());
    }
}

/// Where the programs are, and as whom they must run: the server refuses to run as root.
struct Binaries {
    folder: PathBuf,
    drop_root: bool,
}

impl Binaries {
    fn find() -> Option<Self> {
        let newest = std::fs::read_dir("/usr/lib/postgresql").ok().and_then(|versions| {
            let folders = versions.flatten().map(|version| version.path().join("bin"));
            folders.filter(|bin| bin.join("initdb").exists()).max()
        });
        let in_path = || {
            let path = std::env::var_os("PATH")?;
            std::env::split_paths(&path).find(|folder| folder.join("initdb").exists())
        };
        let Some(folder) = newest.or_else(in_path) else {
            eprintln!("skipped: PostgreSQL is not installed; run scripts/deps");
            return None;
        };
        Some(Self { folder, drop_root: rustix::process::geteuid().is_root() })
    }

    /// A fresh data folder, made once and packed.
    fn archive(&self) -> PathBuf {
        let tmp = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        std::fs::create_dir_all(&tmp).unwrap();
        let archive = tmp.join("postgres.tar");
        let lock = File::create(tmp.join("postgres.lock")).unwrap();
        lock.lock().unwrap();
        if !archive.exists() {
            self.pack(&archive);
        }
        archive
    }

    fn pack(&self, archive: &Path) {
        let folder = tempfile::Builder::new().prefix("countersign-initdb-").tempdir().unwrap();
        self.give(folder.path());
        let initdb = self.as_owner(&self.folder.join("initdb"));
        let data = folder.path().join("data");
        run(Command::new(&initdb[0]).args(&initdb[1..]).arg("-D").arg(&data).args(INITDB));
        let unfinished = archive.with_extension("new");
        run(Command::new("tar")
            .arg("-cf")
            .arg(&unfinished)
            .arg("-C")
            .arg(folder.path())
            .arg("data"));
        std::fs::rename(unfinished, archive).unwrap();
    }

    fn give(&self, folder: &Path) {
        if self.drop_root {
            run(Command::new("chown").arg("postgres").arg(folder));
        }
    }

    fn as_owner(&self, program: &Path) -> Vec<String> {
        let mut words = Vec::new();
        if self.drop_root {
            words.extend(["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        }
        let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        words.push(program.display().to_string());
        words
    }
}

fn run(command: &mut Command) {
    let output = command.current_dir("/").stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

const INITDB: &[&str] =
    &["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--wal-segsize=1"];

/// Input's end means that the tests are over. Signals to the whole group (^C) are left to them.
const KEEPER: &str = r#"
trap '' INT TERM HUP
folder=$1; shift
cd / || exit 1
start() {
    "$@" -D "$folder/data" -k "$folder" -F -c listen_addresses= -c full_page_writes=off \
        -c shared_buffers=8MB -c max_connections=60 -c max_wal_size=64MB </dev/null >"$folder/log" 2>&1 &
    server=$!
}
stop() { kill -QUIT "$server" 2>/dev/null; wait "$server" 2>/dev/null; }
while read -r command; do
    case $command in
        start) start "$@" ;;
        kill) stop ;;
    esac
done
stop
rm -rf "$folder"
"#;
const TICK: Duration = Duration::from_millis(20);
