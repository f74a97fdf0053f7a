//! A crate as a tree of modules, and where a path leads in it.

use super::paths::{Paths, is_for_tests};
use anyhow::{Context as _, Result};
use std::collections::{BTreeMap, BTreeSet};
use syn::visit::Visit as _;
use syn::{Item, ItemMod};

/// Path of a module from the crate's root.
pub(crate) type ModulePath = Vec<String>;

/// The modules of a crate, those for tests left out.
pub(crate) type Modules = BTreeMap<ModulePath, Module>;

/// Names and paths in a module.
#[derive(Debug, Default)]
pub(crate) struct Module {
    /// The file that it stands in.
    pub(crate) file: String,
    /// The names of the items that it defines, modules aside.
    pub(crate) items: BTreeSet<String>,
    /// Imported and mentioned paths.
    pub(crate) paths: Paths,
}

/// Reads the modules of a crate, from its root file on.
pub(crate) fn read_modules(sources: &BTreeMap<String, String>, root: &str) -> Result<Modules> {
    let mut reader = Reader { sources, modules: Modules::new() };
    reader.read_file(root, &[])?;
    Ok(reader.modules)
}

struct Reader<'a> {
    sources: &'a BTreeMap<String, String>,
    modules: Modules,
}

impl Reader<'_> {
    fn read_file(&mut self, file: &str, module: &[String]) -> Result<()> {
        let text = self.sources.get(file).with_context(|| format!("{file} is not there"))?;
        let parsed = syn::parse_file(text).with_context(|| format!("{file} cannot be read"))?;
        self.read_items(file, module, &parsed.items)
    }

    fn read_items(&mut self, file: &str, module: &[String], items: &[Item]) -> Result<()> {
        let mut this = Module { file: file.to_owned(), ..Module::default() };
        for item in items {
            match item {
                Item::Mod(child) if is_for_tests(&child.attrs) => {}
                Item::Mod(child) => self.read_child(file, module, child)?,
                _ => {
                    this.items.extend(defined_name(item));
                    this.paths.visit_item(item);
                }
            }
        }
        self.modules.insert(module.to_vec(), this);
        Ok(())
    }

    fn read_child(&mut self, file: &str, parent: &[String], child: &ItemMod) -> Result<()> {
        let name = child.ident.to_string();
        let module = child_of(parent, &name);
        if let Some((_, items)) = &child.content {
            return self.read_items(file, &module, items);
        }
        let path = module.join("/");
        let candidates = [format!("{path}.rs"), format!("{path}/mod.rs")];
        let found = candidates.into_iter().find(|candidate| self.sources.contains_key(candidate));
        self.read_file(
            &found.with_context(|| format!("{file} declares {name}, which has no file"))?,
            &module,
        )
    }
}

/// Returns the item's own name, if it has one.
fn defined_name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(it) => &it.ident,
        Item::Enum(it) => &it.ident,
        Item::Fn(it) => &it.sig.ident,
        Item::Static(it) => &it.ident,
        Item::Struct(it) => &it.ident,
        Item::Trait(it) => &it.ident,
        Item::Type(it) => &it.ident,
        Item::Union(it) => &it.ident,
        Item::Macro(it) => it.ident.as_ref()?,
        _ => return None,
    };
    Some(ident.to_string())
}

/// Target of a path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    /// The module that defines what the path names, or that it names.
    pub(crate) module: ModulePath,
    /// The item; none where the path names the module itself.
    pub(crate) item: Option<String>,
}

/// Resolves a path that is written in the module `from`. None if the path leads out of the crate.
pub(crate) fn resolve(modules: &Modules, from: &[String], written: &[String]) -> Option<Target> {
    Search { modules, seen: BTreeSet::new() }.resolve_path(from, written)
}

/// A search; names already searched are skipped, since imports may go round in circles.
struct Search<'a> {
    modules: &'a Modules,
    seen: BTreeSet<(ModulePath, String)>,
}

impl Search<'_> {
    fn resolve_path(&mut self, from: &[String], written: &[String]) -> Option<Target> {
        let (mut module, mut rest) = self.find_start(from, written)?;
        while let Some((name, further)) = rest.split_first() {
            let child = child_of(&module, name);
            if !self.modules.contains_key(&child) {
                return Some(self.find_item(module, name, further));
            }
            (module, rest) = (child, further);
        }
        Some(Target { module, item: None })
    }

    /// Returns the module that a path begins in, and the remaining segments. None if the first name
    /// belongs to another crate.
    fn find_start<'w>(
        &self,
        from: &[String],
        written: &'w [String],
    ) -> Option<(ModulePath, &'w [String])> {
        let (first, rest) = written.split_first()?;
        match first.as_str() {
            "crate" => Some((Vec::new(), rest)),
            "self" => follow_supers(from, rest),
            "super" => follow_supers(from, written),
            _ if self.is_in_scope(from, first) => Some((from.to_vec(), written)),
            _ => None,
        }
    }

    /// True if a module or an import of this name is in scope.
    fn is_in_scope(&self, module: &[String], name: &str) -> bool {
        let imported = || {
            self.modules[module]
                .paths
                .imports
                .iter()
                .any(|import| import.name.as_deref() == Some(name))
        };
        self.modules.contains_key(&child_of(module, name)) || imported()
    }

    /// Finds the module that defines `name` of `module`, directly or by an import. An item that a
    /// macro defines, or another crate, is not seen and counts as defined in `module`.
    fn find_item(&mut self, module: ModulePath, name: &str, further: &[String]) -> Target {
        let searched_module = &self.modules[&module];
        let searched = !self.seen.insert((module.clone(), name.to_owned()));
        let imported = if searched || searched_module.items.contains(name) {
            None
        } else {
            self.find_import(&module, name, further)
        };
        imported.unwrap_or_else(|| Target { module, item: Some(name.to_owned()) })
    }

    fn find_import(&mut self, module: &[String], name: &str, further: &[String]) -> Option<Target> {
        let imports = &self.modules[module].paths.imports;
        if let Some(import) = imports.iter().find(|import| import.name.as_deref() == Some(name)) {
            return self.resolve_path(module, &[import.path.as_slice(), further].concat());
        }
        let globs = imports.iter().filter(|import| import.name.is_none());
        globs.into_iter().find_map(|glob| {
            let target = self.resolve_path(
                module,
                &[glob.path.as_slice(), &[name.to_owned()], further].concat(),
            )?;
            let defined = target
                .item
                .as_ref()
                .is_some_and(|item| self.modules[&target.module].items.contains(item));
            defined.then_some(target)
        })
    }
}

/// Follows the `super` that a path begins with.
fn follow_supers<'w>(from: &[String], written: &'w [String]) -> Option<(ModulePath, &'w [String])> {
    let steps = written.iter().take_while(|name| *name == "super").count();
    let depth = from.len().checked_sub(steps)?;
    Some((from[..depth].to_vec(), &written[steps..]))
}

fn child_of(module: &[String], name: &str) -> ModulePath {
    [module, &[name.to_owned()]].concat()
}
