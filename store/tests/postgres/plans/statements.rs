//! The store's statements, as sqlx has described them, prepared for generic plans.

use crate::plans::exceptions::{EXCEPTIONS, Exception, FUNCTIONS};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};
use std::fs;

/// Folder with one file for each statement, which a test of the testbed keeps complete.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.sqlx");

/// A statement that one connection has prepared.
pub(crate) struct PreparedStatement {
    /// The statement's text.
    pub query: String,
    /// The faults that its plan may have.
    pub exceptions: Vec<Exception>,
    /// EXECUTE with NULL for each parameter: a generic plan does not depend on them.
    execute: String,
}

/// Prepares every statement, for generic plans. Each exception must be about exactly one of them.
pub(crate) async fn prepare_statements(
    connection: &mut PgConnection,
) -> Result<Vec<PreparedStatement>> {
    sqlx::raw_sql("SET plan_cache_mode = force_generic_plan").execute(&mut *connection).await?;
    let mut statements = Vec::new();
    for entry in fs::read_dir(FOLDER)? {
        let described: Value = serde_json::from_slice(&fs::read(entry?.path())?)?;
        let name = format!("statement_{}", statements.len());
        statements.push(PreparedStatement::prepare(connection, &name, &described).await?);
    }
    ensure!(statements.len() > 80, "{FOLDER} has only {} statements", statements.len());
    for Exception { statement, .. } in EXCEPTIONS {
        let matching = statements.iter().filter(|it| it.query.contains(statement)).count();
        ensure!(matching == 1, "an exception is about {matching} statements: {statement}");
    }
    Ok(statements)
}

/// Fails for a function of the schema: a plan does not show the statements in its body, so they must
/// be read in another way.
pub(crate) async fn ensure_no_hidden_statements(connection: &mut PgConnection) -> Result<()> {
    let functions: Vec<String> = sqlx::query_scalar(
        "SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1",
    )
    .fetch_all(connection)
    .await?;
    let hidden: Vec<_> =
        functions.iter().filter(|name| FUNCTIONS.iter().all(|(known, _)| known != name)).collect();
    ensure!(hidden.is_empty(), "EXPLAIN the statements in the bodies of {hidden:?}");
    Ok(())
}

impl PreparedStatement {
    async fn prepare(connection: &mut PgConnection, name: &str, described: &Value) -> Result<Self> {
        let query = described["query"].as_str().context("a statement without text")?.to_owned();
        let parameters = described["describe"]["parameters"]["Left"].as_array().map_or(0, Vec::len);
        sqlx::raw_sql(AssertSqlSafe(format!("PREPARE {name} AS {query}")))
            .execute(&mut *connection)
            .await
            .with_context(|| query.clone())?;
        let arguments = if parameters == 0 {
            String::new()
        } else {
            format!("({})", vec!["NULL"; parameters].join(", "))
        };
        let exceptions = EXCEPTIONS.into_iter().filter(|it| query.contains(it.statement));
        Ok(Self {
            exceptions: exceptions.collect(),
            query,
            execute: format!("EXECUTE {name}{arguments}"),
        })
    }

    /// The root of the statement's plan, planned for the present indexes and statistics.
    pub(crate) async fn explain(&self, connection: &mut PgConnection) -> Result<Value> {
        let explain = format!("EXPLAIN (FORMAT JSON) {}", self.execute);
        let rows = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut *connection).await;
        let rows = rows.with_context(|| self.query.clone())?;
        let row = rows.first().context("no plan")?;
        let mut plan: Value = sqlx::Row::try_get(row, 0)?;
        Ok(plan[0]["Plan"].take())
    }
}
