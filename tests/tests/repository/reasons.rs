//! Every reason that Waygate writes has a row in the reference.

use crate::files::{read_text, repository_root};
use anyhow::{Result, ensure};
use waygate_core::condition::Reason;

#[test]
fn every_reason_of_the_code_stands_in_the_reference() -> Result<()> {
    let text = read_text(&repository_root().join("docs/reference.md"))?;
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    let is_listed = |reason: &Reason| {
        let quoted = format!("`{}`", reason.as_str());
        rows.iter().any(|row| row.split('|').nth(1).is_some_and(|cell| cell.contains(&quoted)))
    };
    let missing: Vec<_> = Reason::ALL
        .iter()
        .filter(|reason| !is_listed(reason))
        .map(|reason| reason.as_str())
        .collect();
    ensure!(missing.is_empty(), "docs/reference.md has no row for {}", missing.join(", "));
    Ok(())
}
