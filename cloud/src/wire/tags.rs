//! The answer to ListTagResources.

use super::{Chain, list, present, text};
use crate::network::ResourceTag;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct TagResources {
    #[serde(default, deserialize_with = "text")]
    next_token: String,
    #[serde(deserialize_with = "list")]
    tag_resources: Vec<WireTag>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireTag {
    #[serde(deserialize_with = "text")]
    resource_id: String,
    #[serde(deserialize_with = "text")]
    tag_key: String,
    #[serde(default, deserialize_with = "text")]
    tag_value: String,
}

impl Chain for TagResources {
    type Item = ResourceTag;

    fn next(&mut self) -> Option<String> {
        present(std::mem::take(&mut self.next_token))
    }

    fn items(self) -> Result<Vec<ResourceTag>, String> {
        let fact = |tag: WireTag| ResourceTag {
            resource_id: tag.resource_id,
            key: tag.tag_key,
            value: tag.tag_value,
        };
        Ok(self.tag_resources.into_iter().map(fact).collect())
    }
}
