//! Work on many rows in small statements: none holds many locks or meets the statement timeout, and
//! other work passes between them.

use crate::error::Error;
use sqlx::postgres::PgQueryResult;

/// Repeats a statement that works on some of the rows, until it finds none, and returns the number
/// of rows. The statement skips rows that are locked, so that two processes share the work.
pub(crate) async fn repeat_batches<F>(mut batch: impl FnMut() -> F) -> Result<u64, Error>
where
    F: Future<Output = Result<PgQueryResult, sqlx::Error>>,
{
    let mut rows = 0;
    loop {
        match batch().await?.rows_affected() {
            0 => return Ok(rows),
            some => rows += some,
        }
    }
}
