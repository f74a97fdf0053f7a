//! `manifests/crds.yaml` is generated from the types in `core/src/resources.rs`; this test holds
//! the file to them, and writes it when `UPDATE_MANIFESTS` is set.

use std::{fmt::Write as _, fs, path::Path};

#[test]
fn the_committed_crds_are_those_of_the_types() {
    let mut generated = String::from(
        "# Generated from core/src/resources.rs: UPDATE_MANIFESTS=1 cargo test -p waygate-core --test manifests\n",
    );
    for definition in waygate_core::resources::crd_definitions() {
        // JSON is YAML; pretty-printed it stays readable, and no YAML writer is needed for it.
        let text = serde_json::to_string_pretty(&definition).expect("a definition is plain data");
        write!(generated, "---\n{text}\n").expect("writing to a string");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/crds.yaml");
    if std::env::var_os("UPDATE_MANIFESTS").is_some() {
        fs::write(&path, &generated).expect("manifests/crds.yaml can be written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == generated,
        "manifests/crds.yaml is out of date: run UPDATE_MANIFESTS=1 cargo test -p waygate-core --test manifests"
    );
}

/// A chart that once brought the definitions and no longer does would take them, and all custom
/// resources, along.
#[test]
fn helm_leaves_the_definitions_standing() {
    for definition in waygate_core::resources::crd_definitions() {
        let annotations = definition.metadata.annotations.unwrap_or_default();
        assert_eq!(
            annotations.get("helm.sh/resource-policy").map(String::as_str),
            Some("keep"),
            "{:?}",
            definition.metadata.name
        );
    }
}
