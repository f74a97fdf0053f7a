//! Which file uses which, and by what names.

use super::modules::{Module, Modules, Target, resolve};
use super::paths::Written;
use std::collections::{BTreeMap, BTreeSet};

/// From file to file, the names that the first uses of the second.
pub(crate) type Arrows = BTreeMap<(String, String), BTreeSet<String>>;

/// All arrows between the files of a crate. That a module declares a child is none, nor that it
/// imports a module: what it uses of that is said by the path that names it.
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

/// What a module imports and what it mentions by paths.
fn list_used_paths(module: &Module) -> impl Iterator<Item = Written> {
    let imported = module.paths.imports.iter().map(|import| match &import.name {
        Some(_) => import.path.clone(),
        None => [import.path.as_slice(), &["*".to_owned()]].concat(),
    });
    imported.chain(module.paths.written.iter().cloned())
}
