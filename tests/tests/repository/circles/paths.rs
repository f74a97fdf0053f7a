//! The paths that a piece of Rust writes down, and the names that its `use` items bring in.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{Visit, visit_item_impl, visit_item_use, visit_path};
use syn::{Attribute, ItemFn, ItemImpl, ItemMod, ItemUse, Macro, Path, UseTree};

/// A path as it was written, segment by segment.
pub(crate) type Written = Vec<String>;

/// A name that a `use` item brings in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Import {
    /// Local name; none for `*`.
    pub(crate) name: Option<String>,
    /// Imported path.
    pub(crate) path: Written,
}

/// Imports and paths in an item.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    /// Imports of its `use` items, at any depth.
    pub(crate) imports: Vec<Import>,
    /// Paths of two segments or more in types, expressions, patterns and macros.
    pub(crate) written: Vec<Written>,
}

/// True if an item is compiled for tests alone.
pub(crate) fn is_for_tests(attributes: &[Attribute]) -> bool {
    let is_test = |attribute: &&Attribute| {
        attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string() == "test")
    };
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"))
        .any(|attribute| is_test(&attribute))
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_for_tests(&item.attrs) {
            flatten_use_tree(&item.tree, &mut Vec::new(), &mut self.imports);
            visit_item_use(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast Path) {
        if path.segments.len() > 1 {
            self.written
                .push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast Macro) {
        self.visit_path(&mac.path);
        paths_of_tokens(mac.tokens.clone(), &mut self.written);
    }

    fn visit_item_mod(&mut self, _: &'ast ItemMod) {
        // A module of its own.
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if !is_for_tests(&item.attrs) {
            syn::visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        if !is_for_tests(&item.attrs) {
            visit_item_impl(self, item);
        }
    }
}

fn flatten_use_tree(tree: &UseTree, prefix: &mut Written, imports: &mut Vec<Import>) {
    let mut import = |name: Option<String>, path: Written| imports.push(Import { name, path });
    match tree {
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            flatten_use_tree(&path.tree, prefix, imports);
            prefix.pop();
        }
        UseTree::Group(group) => {
            group.items.iter().for_each(|tree| flatten_use_tree(tree, prefix, imports));
        }
        UseTree::Glob(_) => import(None, prefix.clone()),
        UseTree::Name(name) if name.ident == "self" => {
            import(prefix.last().cloned(), prefix.clone());
        }
        UseTree::Name(name) => import(
            Some(name.ident.to_string()),
            [prefix.as_slice(), &[name.ident.to_string()]].concat(),
        ),
        UseTree::Rename(rename) if rename.ident == "self" => {
            import(Some(rename.rename.to_string()), prefix.clone());
        }
        UseTree::Rename(rename) => {
            import(
                Some(rename.rename.to_string()),
                [prefix.as_slice(), &[rename.ident.to_string()]].concat(),
            );
        }
    }
}

/// Paths such as `name::name` in the tokens of a macro, which are not Rust until it is expanded.
fn paths_of_tokens(tokens: TokenStream, written: &mut Vec<Written>) {
    let mut path: Written = Vec::new();
    let mut colons = 0;
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => {
                if colons != 2 {
                    push_path(&mut path, written);
                }
                path.push(ident.to_string());
                colons = 0;
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
            other => {
                push_path(&mut path, written);
                colons = 0;
                if let TokenTree::Group(group) = other {
                    paths_of_tokens(group.stream(), written);
                }
            }
        }
    }
    push_path(&mut path, written);
}

fn push_path(path: &mut Written, written: &mut Vec<Written>) {
    let path = std::mem::take(path);
    if path.len() > 1 {
        written.push(path);
    }
}
