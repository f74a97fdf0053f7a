//! The answer to ListTagResources.

use super::{Chain, non_empty, scalar_text, wrapped_list};
use crate::network::ResourceTag;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct TagResources {
    #[serde(default, deserialize_with = "scalar_text")]
    next_token: String,
    #[serde(deserialize_with = "wrapped_list")]
    tag_resources: Vec<WireTag>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireTag {
    #[serde(deserialize_with = "scalar_text")]
    resource_id: String,
    #[serde(deserialize_with = "scalar_text")]
    tag_key: String,
    #[serde(default, deserialize_with = "scalar_text")]
    tag_value: String,
}

impl Chain for TagResources {
    type Item = ResourceTag;

    fn take_next_token(&mut self) -> Option<String> {
        non_empty(std::mem::take(&mut self.next_token))
    }

    fn into_chain_items(self) -> Result<Vec<ResourceTag>, String> {
        let fact = |tag: WireTag| ResourceTag {
            resource_id: tag.resource_id,
            key: tag.tag_key,
            value: tag.tag_value,
        };
        Ok(self.tag_resources.into_iter().map(fact).collect())
    }
}
