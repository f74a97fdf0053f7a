//! The modules of every crate hang together without circles: a reader of one file need not know
//! those that use it.

mod arrows;
mod modules;
mod paths;
mod rings;
mod tests;

use crate::files::{read_rust_files, repository_root};
use anyhow::{Context as _, Result, ensure};
use arrows::Arrows;
use std::collections::BTreeMap;

/// Crates in which circles are left; removing a crate here makes the test list its circles. The
/// list only ever gets shorter.
const STILL_TIED: &[&str] = &[];

/// Below this many crates the search itself is at fault.
const CRATES: usize = 10;

#[test]
fn modules_import_each_other_in_no_circle() -> Result<()> {
    let crates = read_crates()?;
    ensure!(crates.len() >= CRATES, "only {} crates were found", crates.len());
    let mut problems = Vec::new();
    for (name, sources) in &crates {
        let circles = find_circles(sources).with_context(|| format!("in {name}"))?;
        match (circles.is_empty(), STILL_TIED.contains(&name.as_str())) {
            (true, true) => problems.push(format!(
                "{name} has no circles any more: take it out of STILL_TIED in {}",
                file!()
            )),
            (false, false) => {
                problems.extend(circles.iter().map(|circle| format!("{name}: {circle}")));
            }
            (true, false) | (false, true) => {}
        }
    }
    ensure!(problems.is_empty(), "\n{}", problems.join("\n"));
    Ok(())
}

/// The sources of every crate of the workspace, by its folder's name and their paths in `src`.
fn read_crates() -> Result<BTreeMap<String, BTreeMap<String, String>>> {
    let mut crates = BTreeMap::new();
    for entry in std::fs::read_dir(repository_root())? {
        let folder = entry?;
        if folder.path().join("Cargo.toml").is_file() && folder.path().join("src").is_dir() {
            crates.insert(
                folder.file_name().to_string_lossy().into_owned(),
                read_rust_files(&folder.path().join("src"))?,
            );
        }
    }
    Ok(crates)
}

/// The circles of one crate, each with its arrows.
fn find_circles(sources: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let mut circles = Vec::new();
    for root in ["lib.rs", "main.rs"].into_iter().filter(|root| sources.contains_key(*root)) {
        let arrows = arrows::draw_arrows(&modules::read_modules(sources, root)?);
        circles
            .extend(rings::find_circles(&arrows).iter().map(|ring| describe_circle(ring, &arrows)));
    }
    Ok(circles)
}

/// Describes a circle for people: its files, and the names that tie them.
fn describe_circle(ring: &[String], arrows: &Arrows) -> String {
    let mut lines = vec![format!("a circle of {} files", ring.len())];
    for ((from, to), names) in
        arrows.iter().filter(|((from, to), _)| ring.contains(from) && ring.contains(to))
    {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        lines.push(format!("    {from} → {to}: {}", names.join(", ")));
    }
    lines.join("\n")
}
