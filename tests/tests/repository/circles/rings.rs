//! Files that reach each other by arrows.

use super::arrows::Arrows;
use std::collections::{BTreeMap, BTreeSet};

/// The largest sets of files of which each reaches every other, those of one file left out.
pub(crate) fn find_circles(arrows: &Arrows) -> Vec<Vec<String>> {
    let reach = list_reachable(arrows);
    let mut rings: BTreeSet<Vec<String>> = BTreeSet::new();
    for (file, reached) in &reach {
        let ring: Vec<String> = reached
            .iter()
            .filter(|other| reach.get(*other).is_some_and(|back| back.contains(file)))
            .cloned()
            .collect();
        if ring.len() > 1 {
            rings.insert(ring);
        }
    }
    rings.into_iter().collect()
}

/// Lists the files that each file reaches by arrows, also through others. Crates are small, so the
/// walk starts at every file.
fn list_reachable(arrows: &Arrows) -> BTreeMap<String, BTreeSet<String>> {
    let mut next: BTreeMap<&String, Vec<&String>> = BTreeMap::new();
    for (from, to) in arrows.keys() {
        next.entry(from).or_default().push(to);
    }
    let from = |start: &String| {
        let mut reached = BTreeSet::new();
        let mut unvisited = next[start].clone();
        while let Some(file) = unvisited.pop() {
            if reached.insert(file.clone()) {
                unvisited.extend(next.get(file).into_iter().flatten().copied());
            }
        }
        reached
    };
    next.keys().map(|start| ((*start).clone(), from(start))).collect()
}
