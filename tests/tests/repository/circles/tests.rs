//! The search itself, on crates made up for it.

use super::find_circles;
use anyhow::Result;
use std::collections::BTreeMap;

fn circles_of(sources: &[(&str, &str)]) -> Result<Vec<String>> {
    find_circles(
        &sources
            .iter()
            .map(|(file, text)| ((*file).to_owned(), (*text).to_owned()))
            .collect::<BTreeMap<_, _>>(),
    )
}

#[test]
fn files_that_use_each_other_are_a_circle_listed_with_its_names() -> Result<()> {
    let found = circles_of(&[
        ("lib.rs", "mod plan; mod lease; mod aside;"),
        ("plan.rs", "use crate::lease::{Lease, Phase as P}; pub struct Step;"),
        (
            "lease.rs",
            "pub struct Lease; pub enum Phase { Held } fn next() -> super::plan::Step { super::plan::Step }",
        ),
        ("aside.rs", "use crate::plan::Step;"),
    ])?;
    assert_eq!(
        found,
        ["a circle of 2 files\n    lease.rs → plan.rs: Step\n    plan.rs → lease.rs: Lease, Phase"]
    );
    Ok(())
}

#[test]
fn a_circle_may_go_over_several_files() -> Result<()> {
    let found = circles_of(&[
        ("main.rs", "mod a; mod b; mod c; fn main() { a::run(); }"),
        ("a.rs", "pub fn run() { crate::b::run() }"),
        ("b.rs", "pub fn run() { crate::c::run() }"),
        ("c.rs", "pub fn run() { crate::a::run() }"),
    ])?;
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("a circle of 3 files"), "{}", found[0]);
    Ok(())
}

#[test]
fn arrows_one_way_are_no_circle() -> Result<()> {
    let found = circles_of(&[
        ("lib.rs", "pub mod plan; pub mod lease; pub use plan::next;"),
        ("plan.rs", "use crate::lease::Lease; pub fn next(_: Lease) {}"),
        ("lease.rs", "pub struct Lease;"),
    ])?;
    assert_eq!(found, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_child_that_uses_what_its_parent_defines_is_a_circle_if_the_parent_uses_the_child() -> Result<()>
{
    let child = ("leases.rs", "use crate::Store; pub struct Loaded; impl Store {}");
    assert_eq!(
        circles_of(&[("lib.rs", "mod leases; pub struct Store;"), child])?,
        Vec::<String>::new(),
        "a declaration is no use"
    );
    for parent in [
        "mod leases; pub use leases::Loaded; pub struct Store;",
        "mod leases; pub struct Store(leases::Loaded);",
    ] {
        let found = circles_of(&[("lib.rs", parent), child])?;
        assert_eq!(
            found,
            ["a circle of 2 files\n    leases.rs → lib.rs: Store\n    lib.rs → leases.rs: Loaded"]
        );
    }
    Ok(())
}

#[test]
fn a_reexported_item_counts_where_it_is_defined() -> Result<()> {
    let found = circles_of(&[
        ("lib.rs", "mod wire;"),
        ("wire/mod.rs", "mod eip; mod page; mod sizes; pub use page::Page; pub use sizes::*;"),
        (
            "wire/eip.rs",
            "use super::{LONGEST, Page}; use crate::wire; fn page() -> Page { wire::LONGEST; Page }",
        ),
        ("wire/page.rs", "pub struct Page;"),
        ("wire/sizes.rs", "pub const LONGEST: usize = 1;"),
    ])?;
    assert_eq!(found, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_path_through_an_imported_module_or_in_a_macro_counts() -> Result<()> {
    for use_of_b in [
        "use crate::b; pub fn run() { b::run() }",
        "pub fn run() { println!(\"{}\", crate::b::NAME) }",
    ] {
        let found = circles_of(&[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", use_of_b),
            ("b.rs", "pub const NAME: &str = \"\"; pub fn run() { use super::a; a::run() }"),
        ])?;
        assert_eq!(found.len(), 1, "{use_of_b}");
    }
    Ok(())
}

#[test]
fn tests_and_other_crates_tie_nothing() -> Result<()> {
    let found = circles_of(&[
        ("lib.rs", "mod a; mod b;"),
        (
            "a.rs",
            "use crate::b::B; use b_crate::a::A; #[cfg(test)] mod tests; #[cfg(test)] mod more { use super::*; }",
        ),
        ("a/tests.rs", "use super::*;"),
        (
            "b.rs",
            "pub struct B; #[cfg(test)] use crate::a::A; #[cfg(test)] fn made() -> crate::a::A { crate::a::A }",
        ),
    ])?;
    assert_eq!(found, Vec::<String>::new());
    Ok(())
}
