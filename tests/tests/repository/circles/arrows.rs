//! Which file uses which, and by what names.

use super::modules::{Module, Modules, Target, resolve};
use super::paths::Written;
use std::collections::{BTreeMap, BTreeSet};

/// From file to file, the names that the first uses of the second.
pub(crate) type Arrows = BTreeMap<(String, String), BTreeSet<String>>;

/// Draws all arrows between the files of a crate. Declaring a child or importing a module makes no
/// arrow; paths that name an item of the module do.
pub(crate) fn draw_arrows(modules: &Modules) -> Arrows {
    let mut arrows = Arrows::new();
    for (path, module) in modules {
        for written in list_used_paths(module) {
            let Some(Target { module: target, item: Some(item) }) =
                resolve(modules, path, &written)
            else {
                continue;
            };
            let to = &modules[&target].file;
            if *to != module.file {
                arrows.entry((module.file.clone(), to.clone())).or_default().insert(item);
            }
        }
    }
    arrows
}

/// Lists the paths that a module imports or mentions.
fn list_used_paths(module: &Module) -> impl Iterator<Item = Written> {
    let imported = module.paths.imports.iter().map(|import| match &import.name {
        Some(_) => import.path.clone(),
        None => [import.path.as_slice(), &["*".to_owned()]].concat(),
    });
    imported.chain(module.paths.written.iter().cloned())
}
