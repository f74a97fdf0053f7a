//! Every file that a document names in backquotes is there.

use crate::files::{read_text, repository_root};
use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};

/// The documents of the project's own folder.
const DOCUMENTS: [&str; 3] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];

/// File name endings of the paths that are checked.
const ENDINGS: [&str; 5] = [".rs", ".sql", ".yaml", ".md", ".go"];

/// Below this many paths the search itself is at fault.
const PATHS: usize = 40;

#[test]
fn every_path_in_the_documents_exists() -> Result<()> {
    let mut paths = 0;
    let mut problems = Vec::new();
    for document in list_documents()? {
        let text = read_text(&repository_root().join(&document))?;
        for path in text.lines().flat_map(list_paths) {
            paths += 1;
            if !path_exists(&document, path) {
                problems.push(format!("{}: there is no {path}", document.display()));
            }
        }
    }
    ensure!(problems.is_empty(), "\n{}", problems.join("\n"));
    ensure!(paths >= PATHS, "only {paths} paths were found");
    Ok(())
}

/// The documents, by their paths from the root.
fn list_documents() -> Result<Vec<PathBuf>> {
    let mut documents: Vec<PathBuf> = DOCUMENTS.iter().map(PathBuf::from).collect();
    for entry in std::fs::read_dir(repository_root().join("docs")).context("listing docs")? {
        let name = PathBuf::from(entry?.file_name());
        if name.extension().is_some_and(|ending| ending == "md") {
            documents.push(Path::new("docs").join(name));
        }
    }
    Ok(documents)
}

/// The paths of files in a line's backquotes. A word with anything else in it, such as a
/// placeholder, is none.
fn list_paths(line: &str) -> Vec<&str> {
    let quoted = line.split('`').skip(1).step_by(2);
    quoted.filter(|word| is_path(word)).collect()
}

fn is_path(word: &str) -> bool {
    let is_plain =
        word.chars().all(|letter| letter.is_ascii_alphanumeric() || "/._-".contains(letter));
    let starts_with_folder = word.split_once('/').is_some_and(|(folder, _)| !folder.is_empty());
    is_plain && starts_with_folder && ENDINGS.iter().any(|ending| word.ends_with(ending))
}

/// True if the path exists from the root; one in `ARCHITECTURE.md` may leave out `core/src`.
fn path_exists(document: &Path, path: &str) -> bool {
    let in_core = document == Path::new("ARCHITECTURE.md")
        && repository_root().join("core/src").join(path).is_file();
    in_core || repository_root().join(path).is_file()
}

mod tests {
    use super::*;

    #[test]
    fn paths_are_words_with_a_folder_and_an_ending() {
        assert_eq!(
            list_paths(
                "| `plan/eip`, `core/src/ids.rs` | /docs/a.md `manifests/crds.yaml` `main.rs` `/livez.md` `a/<name>.rs` |"
            ),
            ["core/src/ids.rs", "manifests/crds.yaml"]
        );
    }

    #[test]
    fn only_the_architecture_may_leave_core_src_out() {
        assert!(path_exists(Path::new("ARCHITECTURE.md"), "plan/lifecycle.rs"));
        assert!(path_exists(Path::new("README.md"), "core/src/plan/lifecycle.rs"));
        assert!(!path_exists(Path::new("README.md"), "plan/lifecycle.rs"));
        assert!(!path_exists(Path::new("ARCHITECTURE.md"), "core/src/plan/afterlife.rs"));
    }
}
