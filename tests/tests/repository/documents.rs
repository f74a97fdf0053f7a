//! Every row of the reference and of the list of faults names tests that are there.

use crate::files::{read_rust_files, read_text, repository_root};
use anyhow::{Result, ensure};
use std::collections::BTreeSet;

/// Prefix of a cell without a test: a dash, then the reason.
const NONE: &str = "— ";

#[test]
fn every_row_of_the_reference_names_an_existing_test() -> Result<()> {
    rows_name_tests("docs/reference.md", 1)
}

#[test]
fn every_fault_names_existing_tests_for_both_kinds() -> Result<()> {
    rows_name_tests("docs/faults.md", 2)
}

/// Checks that every row of the file's tables names existing tests in its last `columns` columns.
/// One column may give a reason after a dash instead.
fn rows_name_tests(file: &str, columns: usize) -> Result<()> {
    let text = read_text(&repository_root().join(file))?;
    let rows = list_rows(&text);
    ensure!(!rows.is_empty(), "{file} has no table");
    let functions = list_functions()?;
    let problems: Vec<_> =
        rows.iter().flat_map(|row| row_problems(row, columns, &functions)).collect();
    ensure!(problems.is_empty(), "{file}:\n{}", problems.join("\n"));
    Ok(())
}

/// The names of all functions in the repository.
fn list_functions() -> Result<BTreeSet<String>> {
    let sources = read_rust_files(&repository_root())?;
    let after_fn = |text: &str| {
        text.split("fn ").skip(1).map(|rest| leading_name(rest).to_owned()).collect::<Vec<_>>()
    };
    Ok(sources.values().flat_map(|text| after_fn(text)).collect())
}

fn leading_name(text: &str) -> &str {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .next()
        .unwrap_or_default()
}

/// The rows of all tables of a Markdown text, without their heads.
fn list_rows(text: &str) -> Vec<&str> {
    let mut rows = Vec::new();
    let mut in_body = false;
    for line in text.lines() {
        let is_row = line.starts_with('|');
        let ends_head = line.starts_with("| ---");
        if is_row && in_body && !ends_head {
            rows.push(line);
        }
        in_body = is_row && (in_body || ends_head);
    }
    rows
}

fn row_problems(row: &str, columns: usize, functions: &BTreeSet<String>) -> Vec<String> {
    let cells: Vec<&str> = row
        .trim()
        .trim_start_matches('|')
        .trim_end_matches('|')
        .split('|')
        .map(str::trim)
        .collect();
    let shown = &cells[cells.len().saturating_sub(columns)..];
    let mut problems = Vec::new();
    let mut named = 0;
    for cell in shown {
        let tests = test_names(cell);
        named += tests.len();
        if tests.is_empty() && !cell.starts_with(NONE) {
            problems.push(format!(
                "  the cell \"{cell}\" names no test, nor says after a dash why not: {row}"
            ));
        }
        let absent = tests.into_iter().filter(|test| !functions.contains(*test));
        problems.extend(absent.map(|test| format!("  there is no test {test}: {row}")));
    }
    if named == 0 {
        problems.push(format!("  no cell names a test: {row}"));
    }
    problems
}

/// The names in backquotes.
fn test_names(cell: &str) -> Vec<&str> {
    let quoted = cell.split('`').skip(1).step_by(2);
    let is_name = |word: &&str| {
        !word.is_empty() && leading_name(word) == *word && !word.contains(char::is_uppercase)
    };
    quoted.filter(is_name).collect()
}

mod tests {
    use super::*;

    fn problems_of(row: &str, columns: usize) -> Vec<String> {
        row_problems(row, columns, &BTreeSet::from(["it_works".to_owned(), "it_holds".to_owned()]))
    }

    #[test]
    fn heads_of_tables_are_not_rows() {
        assert_eq!(
            list_rows(
                "| key | shown by |\n| --- | --- |\n| a | b |\n\ntext\n| c | d |\n| --- | --- |\n| e | |\n"
            ),
            ["| a | b |", "| e | |"]
        );
    }

    #[test]
    fn a_row_with_existing_tests_has_no_problem() {
        assert_eq!(problems_of("| `key` | | `it_works`, `it_holds` |", 1), Vec::<String>::new());
        assert_eq!(
            problems_of("| `key` | — EIPs have none | `it_works` |", 2),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_row_without_a_test_or_with_a_missing_one_is_reported() {
        assert!(problems_of("| `key` | |", 1)[0].contains("names no test"));
        assert!(problems_of("| `key` | `it_went` |", 1)[0].contains("no test it_went"));
        assert!(problems_of("| `key` | — why | — why |", 2)[0].contains("no cell names a test"));
        assert!(
            problems_of("| `key` | why | `it_works` |", 2)[0].contains("nor says after a dash")
        );
    }
}
