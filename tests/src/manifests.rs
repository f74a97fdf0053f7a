//! The project's manifests, read as they are shipped.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::layout;

/// All objects of one file of `manifests/`.
pub fn read(file: &str) -> Result<Vec<Value>> {
    let path = layout::project().join("manifests").join(file);
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading manifests/{file}"))?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).with_context(|| format!("manifests/{file}"))?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}
