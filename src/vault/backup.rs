//! Backups: a consistent copy of the store in one file, for either engine, still sealed.
//!
//! The first line says what it is, each further line is one row as JSON, and the last one holds
//! the number of rows and a SHA-256 of all that goes before: a file that was cut off or damaged is
//! refused as a whole. What must not come back to life is left out: sessions, connect tokens,
//! pending flows and their outcomes, used assertions, leases, and the feed of changes. A backup of one engine restores into the other.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::TryStreamExt as _;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::any::{AnyRow, AnyTypeInfoKind};
use sqlx::{
    AnyConnection, AssertSqlSafe, Column as _, Executor as _, Row as _, TypeInfo as _,
    ValueRef as _,
};

use super::error::Error;
use super::open::{LATEST, OpenError};
use super::store::{Engine, Sql};
use super::{Settings, Vault};
use crate::secret::hex;

/// Why a backup was not made or not restored. Nothing was left half done.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{}: cannot be read or written", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{} exists: name another file, or move it away", path.display())]
    Exists { path: PathBuf },
    #[error("{} is not a whole backup ({what}): take another one", path.display())]
    Damaged { path: PathBuf, what: &'static str },
    #[error(
        "{} was made by a newer version (schema {found}, this one knows {LATEST}): restore it \
         with that version",
        path.display()
    )]
    Newer { path: PathBuf, found: i64 },
    #[error("{place} is not empty: restore into a new file or an empty database")]
    NotEmpty { place: String },
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] Error),
}

/// A backup that was read to its end and found whole.
pub(super) struct Backup {
    path: PathBuf,
    pub(super) schema: i64,
    rows: u64,
}

impl Vault {
    /// Writes a backup to `path`, which must not exist, and says how many rows it holds. Others
    /// go on reading and writing meanwhile.
    pub async fn backup(&self, path: &Path) -> Result<u64, BackupError> {
        let io = |source| BackupError::Io { path: path.to_owned(), source };
        if path.try_exists().map_err(io)? {
            return Err(BackupError::Exists { path: path.to_owned() });
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        // Only its owner may read a temporary file, and so this one when it has its name.
        let file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).map_err(io)?;
        let mut out = Hashed::new(BufWriter::new(file.reopen().map_err(io)?));
        let rows = self.write_rows(path, &mut out).await?;
        out.finish(rows).map_err(io)?;
        file.persist_noclobber(path).map_err(|error| io(error.error))?;
        Ok(rows)
    }

    /// Fills a new store from a backup and opens it. The keys must be those of the backup.
    pub async fn restore(path: &Path, into: Settings) -> Result<Self, BackupError> {
        let backup = Backup::check(path)?;
        Self::open_with(into, Some(&backup)).await.map_err(|error| match error {
            OpenError::Foreign { place } => BackupError::NotEmpty { place },
            other => BackupError::Open(other),
        })
    }

    async fn write_rows(&self, path: &Path, out: &mut Hashed) -> Result<u64, BackupError> {
        let io = |source| BackupError::Io { path: path.to_owned(), source };
        let begin = match self.store.engine {
            Engine::Sqlite => "BEGIN",
            Engine::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        let mut tx = self.store.readers.begin_with(begin).await.map_err(Error::from)?;
        out.line(&json!({ "countersign": FORMAT, "schema": LATEST })).map_err(io)?;
        let mut rows = 0;
        for table in TABLES {
            let query = super::store::sql_of(format!("SELECT * FROM {table}"));
            let mut stream = tx.fetch(query);
            while let Some(row) = stream.try_next().await.map_err(Error::from)? {
                out.line(&json!({ "table": table, "row": cells(&row)? })).map_err(io)?;
                rows += 1;
            }
        }
        Ok(rows)
    }
}

fn cells(row: &AnyRow) -> Result<Map<String, Value>, Error> {
    let columns = row.columns().iter();
    columns.map(|column| Ok((column.name().to_owned(), cell(row, column.ordinal())?))).collect()
}

/// Bytes become `{"base64": …}`.
fn cell(row: &AnyRow, at: usize) -> Result<Value, Error> {
    let raw = row.try_get_raw(at)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let kind = raw.type_info().kind();
    Ok(match kind {
        AnyTypeInfoKind::BigInt => Value::from(row.try_get::<i64, _>(at)?),
        AnyTypeInfoKind::Text => Value::from(row.try_get::<String, _>(at)?),
        AnyTypeInfoKind::Blob => {
            json!({ "base64": STANDARD.encode(row.try_get::<Vec<u8>, _>(at)?) })
        }
        _ => return Err(super::row::unexpected(raw.type_info().name())),
    })
}

impl Backup {
    /// Reads all of it and believes nothing before the last line.
    fn check(path: &Path) -> Result<Self, BackupError> {
        let damaged = |what| BackupError::Damaged { path: path.to_owned(), what };
        let io = |source| BackupError::Io { path: path.to_owned(), source };
        let mut lines = BufReader::new(File::open(path).map_err(io)?).lines();
        let first = lines.next().ok_or(damaged("it is empty"))?.map_err(|_| damaged(TEXT))?;
        let head = parse(&first).ok_or(damaged("it does not begin like one"))?;
        if head["countersign"] != FORMAT {
            return Err(damaged("it does not begin like one"));
        }
        let schema = head["schema"].as_i64().ok_or(damaged("it does not name its schema"))?;
        if schema > LATEST {
            return Err(BackupError::Newer { path: path.to_owned(), found: schema });
        }
        let (mut hash, mut previous, mut rows) = (Sha256::new(), first, 0_u64);
        for line in lines {
            let line = line.map_err(|_| damaged(TEXT))?;
            hash_line(&mut hash, &previous);
            previous = line;
            rows += 1;
        }
        let last = parse(&previous).ok_or(damaged("its end is missing"))?;
        let digest: [u8; 32] = hash.finalize().into();
        if last["sha256"] != hex(&digest) || last["rows"] != rows.saturating_sub(1) {
            return Err(damaged("its end is missing, or it was changed"));
        }
        Ok(Self { path: path.to_owned(), schema, rows: rows - 1 })
    }

    /// Puts all rows into tables of the backup's own schema.
    pub(super) async fn pour(&self, tx: &mut AnyConnection) -> Result<(), sqlx::Error> {
        let file = BufReader::new(File::open(&self.path)?);
        let rows = usize::try_from(self.rows).unwrap_or(usize::MAX);
        for line in file.lines().skip(1).take(rows) {
            let line = line?;
            let row = parse(&line).ok_or_else(|| malformed("a line is not JSON"))?;
            tx.execute(insert(&row)?).await?;
        }
        // Whoever held these was another store's node; the attempts stay, without a result.
        tx.execute("UPDATE account SET lease_owner = NULL, lease_until = NULL").await?;
        Ok(())
    }
}

/// Names come from the file: only those that can be ours may become a part of a statement.
fn insert(row: &Value) -> Result<Sql, sqlx::Error> {
    let table = TABLES.iter().find(|table| row["table"] == **table);
    let table = table.ok_or_else(|| malformed("a table is unknown"))?;
    let cells = row["row"].as_object().ok_or_else(|| malformed("a row is missing"))?;
    let (mut names, mut values, mut bound) = (Vec::new(), Vec::new(), Vec::new());
    for (name, value) in cells {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            return Err(malformed("a column is unknown"));
        }
        names.push(name.as_str());
        // An unbound NULL needs no type, which the file does not have.
        if value.is_null() {
            values.push("NULL".to_owned());
            continue;
        }
        bound.push(value);
        values.push(format!("${}", bound.len()));
    }
    let (names, values) = (names.join(", "), values.join(", "));
    let text = format!("INSERT INTO {table} ({names}) VALUES ({values})");
    bound.into_iter().try_fold(sqlx::query(AssertSqlSafe(text)), bind)
}

fn bind(query: Sql, value: &Value) -> Result<Sql, sqlx::Error> {
    if let Some(text) = value.as_str() {
        return Ok(query.bind(text.to_owned()));
    }
    if let Some(number) = value.as_i64() {
        return Ok(query.bind(number));
    }
    let bytes = value["base64"].as_str().and_then(|text| STANDARD.decode(text).ok());
    Ok(query.bind(bytes.ok_or_else(|| malformed("a value is of no known kind"))?))
}

fn malformed(what: &'static str) -> sqlx::Error {
    sqlx::Error::Configuration(format!("the backup is malformed: {what}").into())
}

fn parse(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok()
}

fn hash_line(hash: &mut Sha256, line: &str) {
    hash.update(line.as_bytes());
    hash.update(b"\n");
}

/// Lines on their way into a file, with their hash.
struct Hashed {
    out: BufWriter<File>,
    hash: Sha256,
}

impl Hashed {
    fn new(out: BufWriter<File>) -> Self {
        Self { out, hash: Sha256::new() }
    }

    fn line(&mut self, value: &Value) -> std::io::Result<()> {
        let line = value.to_string();
        hash_line(&mut self.hash, &line);
        writeln!(self.out, "{line}")
    }

    fn finish(mut self, rows: u64) -> std::io::Result<()> {
        let digest: [u8; 32] = self.hash.finalize().into();
        writeln!(self.out, "{}", json!({ "rows": rows, "sha256": hex(&digest) }))?;
        self.out.flush()?;
        self.out.get_ref().sync_all()
    }
}

const FORMAT: &str = "backup 1";
const TEXT: &str = "it is not text";
/// In an order in which every reference finds what it refers to.
const TABLES: &[&str] = &[
    "master_key",
    "member",
    "member_token",
    "project",
    "external_user",
    "oauth_client",
    "app_override",
    "account",
    "account_access",
    "caller",
    "caller_token",
    "binding",
    "ended_binding",
    "api_client",
    "api_client_key",
    "rate_limit",
    "webhook",
    "sealed_item",
    "saved_request",
    "app_definition",
];
