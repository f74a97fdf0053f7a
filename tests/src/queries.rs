//! `testbed queries` renews or checks the files with which the store compiles without a database.
//!
//! ```text
//! migrations/ ─▶ a database of its own ─▶ cargo check of the store ─▶ one file a statement ─▶ store/.sqlx, or compared with it
//! ```

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, migrate::Migrator};
use url::Url;

use crate::{layout, process};

/// Options of `testbed queries`.
#[derive(Debug, Args)]
pub struct Options {
    /// Change nothing; fail if store/.sqlx is not what the statements and the migrations give.
    #[arg(long)]
    check: bool,
    /// A Postgres where databases may be created.
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    database_url: Url,
}

/// The files of one folder, by name.
type Files = BTreeMap<String, Vec<u8>>;

/// Describes all statements of the store again, and renews `store/.sqlx` or compares it.
pub async fn run_queries(options: Options) -> Result<ExitCode> {
    let described = describe_statements(&options.database_url).await?;
    let committed = committed_folder();
    let differences = list_differences(&read_folder(&committed)?, &described);
    if !options.check {
        replace_folder(&committed, &described)?;
        println!(
            "store/.sqlx describes {} statements; {} files changed",
            described.len(),
            differences.len()
        );
        return Ok(ExitCode::SUCCESS);
    }
    if differences.is_empty() {
        println!("store/.sqlx is what {} statements and the migrations give", described.len());
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "store/.sqlx is out of date; `make sqlx-prepare` renews it:\n{}",
        differences.join("\n")
    );
    Ok(ExitCode::FAILURE)
}

fn committed_folder() -> PathBuf {
    layout::project_folder().join("store/.sqlx")
}

/// Lets sqlx' macros describe every statement of the store, from a database with our migrations.
async fn describe_statements(admin: &Url) -> Result<Files> {
    let name = format!("waygate_queries_{}", std::process::id());
    let mut own = admin.clone();
    own.set_path(&name);
    let mut connection =
        PgConnection::connect(admin.as_str()).await.context("reaching Postgres at DATABASE_URL")?;
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await?;
    let described = describe_in(&own).await;
    sqlx::query(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)")))
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    described
}

async fn describe_in(database: &Url) -> Result<Files> {
    let mut connection = PgConnection::connect(database.as_str()).await?;
    Migrator::new(layout::project_folder().join("migrations")).await?.run(&mut connection).await?;
    connection.close().await?;
    let folder = layout::scratch_folder().join("queries");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    compile_store(database, &folder).await?;
    let described = read_folder(&folder)?;
    ensure!(!described.is_empty(), "the compiler described no statement");
    Ok(described)
}

/// Lets the compiler look at the store's statements once more. Only the store and what it needs are
/// compiled, with the features that all other commands compile them with, so that nothing is
/// compiled twice.
async fn compile_store(database: &Url, folder: &Path) -> Result<()> {
    let mut cargo = process::tethered_command("cargo");
    cargo.current_dir(layout::project_folder()).args([
        "check",
        "--quiet",
        "--workspace",
        "--test",
        "postgres",
    ]);
    cargo.env("WAYGATE_PREPARE_DATABASE_URL", database.as_str()).env("SQLX_OFFLINE_DIR", folder);
    let touched = TouchedFile::touch_file(layout::project_folder().join("store/src/lib.rs"))?;
    let status = cargo.status().await.context("cargo does not start")?;
    touched.restore_time()?;
    ensure!(status.success(), "the store does not compile against its migrations");
    Ok(())
}

/// A source file with a new modification time, so that cargo compiles it again: cargo does not know
/// that macros ask a database. The old time is put back afterwards, which keeps earlier builds
/// valid.
struct TouchedFile {
    file: fs::File,
    before: SystemTime,
}

impl TouchedFile {
    fn touch_file(path: PathBuf) -> Result<Self> {
        let file = fs::File::options().append(true).open(path)?;
        let before = file.metadata()?.modified()?;
        let clock = layout::scratch_folder().join("now");
        fs::write(&clock, "")?;
        file.set_modified(fs::metadata(&clock)?.modified()?)?;
        Ok(Self { file, before })
    }

    fn restore_time(self) -> Result<()> {
        Ok(self.file.set_modified(self.before)?)
    }
}

fn read_folder(folder: &Path) -> Result<Files> {
    let mut files = Files::new();
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let entry = entry?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
    }
    Ok(files)
}

fn replace_folder(folder: &Path, files: &Files) -> Result<()> {
    for name in read_folder(folder)?.keys().filter(|name| !files.contains_key(*name)) {
        fs::remove_file(folder.join(name))?;
    }
    files
        .iter()
        .try_for_each(|(name, text)| fs::write(folder.join(name), text))
        .context("writing store/.sqlx")
}

/// Lists the differences between the committed files and the statements, a line each.
fn list_differences(committed: &Files, described: &Files) -> Vec<String> {
    let missing = described
        .iter()
        .filter(|(name, _)| !committed.contains_key(*name))
        .map(|it| describe_difference("missing", it));
    let superfluous = committed
        .iter()
        .filter(|(name, _)| !described.contains_key(*name))
        .map(|it| describe_difference("superfluous", it));
    let changed = described
        .iter()
        .filter(|(name, text)| committed.get(*name).is_some_and(|before| before != *text));
    missing.chain(superfluous).chain(changed.map(|it| describe_difference("changed", it))).collect()
}

/// A file with the beginning of its statement, by which a person knows it.
fn describe_difference(what: &str, (name, text): (&String, &Vec<u8>)) -> String {
    const SHOWN: usize = 80;
    let described: Value = serde_json::from_slice(text).unwrap_or_default();
    let statement = described["query"].as_str().unwrap_or("which describes no statement");
    let words: Vec<&str> = statement.split_whitespace().collect();
    let start: String = words.join(" ").chars().take(SHOWN).collect();
    format!("  {what}: {name}: {start}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names_and_statements: &[(&str, &str)]) -> Files {
        let described = |(name, statement): &(&str, &str)| {
            ((*name).to_owned(), format!("{{\"query\": \"{statement}\"}}").into_bytes())
        };
        names_and_statements.iter().map(described).collect()
    }

    #[test]
    fn every_missing_superfluous_or_changed_file_is_reported() {
        let committed =
            files(&[("same", "SELECT 1"), ("changed", "SELECT 2"), ("old", "SELECT 3")]);
        let described =
            files(&[("same", "SELECT 1"), ("changed", "SELECT  4"), ("new", "SELECT 5")]);
        let differences = list_differences(&committed, &described);
        assert_eq!(
            differences,
            [
                "  missing: new: SELECT 5",
                "  superfluous: old: SELECT 3",
                "  changed: changed: SELECT 4"
            ]
        );
        assert_eq!(list_differences(&described, &described), Vec::<String>::new());
    }

    #[test]
    fn a_touched_file_is_newer_until_its_time_is_restored() {
        let path = layout::scratch_folder().join(format!("touched-{}", std::process::id()));
        fs::create_dir_all(layout::scratch_folder()).unwrap();
        fs::write(&path, "").unwrap();
        let before =
            fs::metadata(&path).unwrap().modified().unwrap() - std::time::Duration::from_mins(1);
        fs::File::options().append(true).open(&path).unwrap().set_modified(before).unwrap();
        let touched = TouchedFile::touch_file(path.clone()).unwrap();
        assert!(fs::metadata(&path).unwrap().modified().unwrap() > before);
        touched.restore_time().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
        fs::remove_file(path).unwrap();
    }
}
