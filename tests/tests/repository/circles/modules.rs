//! A crate as a tree of modules, and where a path leads in it.

use super::paths::{Paths, is_for_tests};
use anyhow::{Context as _, Result};
use std::collections::{BTreeMap, BTreeSet};
use syn::visit::Visit as _;
use syn::{Item, ItemMod};

/// A module: its path from the crate's root.
pub(crate) type ModulePath = Vec<String>;

/// The modules of a crate, those for tests left out.
pub(crate) type Modules = BTreeMap<ModulePath, Module>;

/// What one module holds.
#[derive(Debug, Default)]
pub(crate) struct Module {
    /// The file that it stands in.
    pub(crate) file: String,
    /// The names of the items that it defines, modules aside.
    pub(crate) items: BTreeSet<String>,
    /// What it imports and mentions.
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

/// What an item is called, if it has a name of its own.
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

/// Where a path leads.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    /// The module that defines what the path names, or that it names.
    pub(crate) module: ModulePath,
    /// The item; none where the path names the module itself.
    pub(crate) item: Option<String>,
}

/// Where a path that is written in the module `from` leads. Nothing if that lies outside the crate.
pub(crate) fn resolve(modules: &Modules, from: &[String], written: &[String]) -> Option<Target> {
    Search { modules, seen: BTreeSet::new() }.resolve(from, written)
}

/// One search; what was looked for already is not looked for again, since imports may go round in
/// circles.
struct Search<'a> {
    modules: &'a Modules,
    seen: BTreeSet<(ModulePath, String)>,
}

impl Search<'_> {
    fn resolve(&mut self, from: &[String], written: &[String]) -> Option<Target> {
        let (mut module, mut rest) = self.start(from, written)?;
        while let Some((name, further)) = rest.split_first() {
            let child = child_of(&module, name);
            if !self.modules.contains_key(&child) {
                return Some(self.find_item(module, name, further));
            }
            (module, rest) = (child, further);
        }
        Some(Target { module, item: None })
    }

    /// The module that a path begins in, and what remains of it. Nothing if its first name is none
    /// of the crate's.
    fn start<'w>(
        &self,
        from: &[String],
        written: &'w [String],
    ) -> Option<(ModulePath, &'w [String])> {
        let (first, rest) = written.split_first()?;
        match first.as_str() {
            "crate" => Some((Vec::new(), rest)),
            "self" => climb(from, rest),
            "super" => climb(from, written),
            _ if self.binds(from, first) => Some((from.to_vec(), written)),
            _ => None,
        }
    }

    /// Whether a module or an import of this name is in scope.
    fn binds(&self, module: &[String], name: &str) -> bool {
        let imported = || {
            self.modules[module]
                .paths
                .imports
                .iter()
                .any(|import| import.name.as_deref() == Some(name))
        };
        self.modules.contains_key(&child_of(module, name)) || imported()
    }

    /// Where `name` in `module` is defined: there, or where it is imported from. What a macro
    /// defines is not seen: it is where it was looked for, and so is what comes from another crate.
    fn find_item(&mut self, module: ModulePath, name: &str, further: &[String]) -> Target {
        let held = &self.modules[&module];
        let searched = !self.seen.insert((module.clone(), name.to_owned()));
        let imported = if searched || held.items.contains(name) {
            None
        } else {
            self.find_import(&module, name, further)
        };
        imported.unwrap_or_else(|| Target { module, item: Some(name.to_owned()) })
    }

    fn find_import(&mut self, module: &[String], name: &str, further: &[String]) -> Option<Target> {
        let imports = &self.modules[module].paths.imports;
        if let Some(import) = imports.iter().find(|import| import.name.as_deref() == Some(name)) {
            return self.resolve(module, &[import.path.as_slice(), further].concat());
        }
        let globs = imports.iter().filter(|import| import.name.is_none());
        globs.into_iter().find_map(|glob| {
            let target = self
                .resolve(module, &[glob.path.as_slice(), &[name.to_owned()], further].concat())?;
            let defined = target
                .item
                .as_ref()
                .is_some_and(|item| self.modules[&target.module].items.contains(item));
            defined.then_some(target)
        })
    }
}

/// Follows the `super` that a path begins with.
fn climb<'w>(from: &[String], written: &'w [String]) -> Option<(ModulePath, &'w [String])> {
    let steps = written.iter().take_while(|name| *name == "super").count();
    let depth = from.len().checked_sub(steps)?;
    Some((from[..depth].to_vec(), &written[steps..]))
}

fn child_of(module: &[String], name: &str) -> ModulePath {
    [module, &[name.to_owned()]].concat()
}
