//! Tags on EIPs and gateways, and the three actions that read and write them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Cloud, Outcome, dispatch::Context};
use crate::{params::Params, refusal::Refusal};

/// Tags a call and a resource may have.
const MAX_TAGS: usize = 20;

type Tags = BTreeMap<String, String>;

impl Cloud {
    pub(super) fn tag_resources(&mut self, context: &Context<'_>) -> Outcome {
        let new = check_tags(context.params)?;
        if new.is_empty() {
            return Err(Refusal::missing_parameter("Tag.1.Key"));
        }
        let ids = resource_ids(context.params)?;
        for id in &ids {
            let tags = self.tags_of(context.params, id)?;
            let mut both = tags.clone();
            both.extend(new.clone());
            if both.len() > MAX_TAGS {
                return Err(Refusal::bad_request(
                    "QuotaExceeded.TagNum",
                    "The number of tags on the resource exceeds the quota.",
                ));
            }
        }
        for id in &ids {
            self.tags_of(context.params, id)?.extend(new.clone());
        }
        Ok(json!({}))
    }

    pub(super) fn untag_resources(&mut self, context: &Context<'_>) -> Outcome {
        let keys = context.params.get_list("TagKey");
        let all = context.params.get_bool("All") && keys.is_empty();
        if !all && keys.is_empty() {
            return Err(Refusal::missing_parameter("TagKey.1"));
        }
        for id in resource_ids(context.params)? {
            self.tags_of(context.params, id)?
                .retain(|key, _| !all && !keys.contains(&key.as_str()));
        }
        Ok(json!({}))
    }

    pub(super) fn list_tag_resources(&mut self, context: &Context<'_>) -> Outcome {
        let params = context.params;
        let kind = params.get_required("ResourceType")?.to_ascii_uppercase();
        let (ids, wanted) = (params.get_list("ResourceId"), params.get_tags());
        if ids.is_empty() && wanted.is_empty() {
            return Err(Refusal::missing_parameter("ResourceId.1"));
        }
        let resources: Vec<(&String, &Tags)> = match kind.as_str() {
            "EIP" => self.eips.iter().map(|(id, eip)| (id, &eip.tags)).collect(),
            "NATGATEWAY" => self.gateways.iter().map(|(id, gateway)| (id, &gateway.tags)).collect(),
            _ => Vec::new(),
        };
        let rows: Vec<Value> = resources
            .into_iter()
            .filter(|(id, tags)| (ids.is_empty() || ids.contains(&id.as_str())) && matches_tags(tags, &wanted))
            .flat_map(|(id, tags)| tags.iter().map(move |tag| (id, tag)))
            .map(|(id, (key, value))| json!({"ResourceId": id, "ResourceType": kind, "TagKey": key, "TagValue": value}))
            .collect();
        let size = params.get_number("MaxResults")?.unwrap_or(50).clamp(1, 50) as usize;
        let (rows, next) = after_token(rows, params, size)?;
        Ok(json!({"TagResources": {"TagResource": rows}, "NextToken": next}))
    }

    fn tags_of(&mut self, params: &Params, id: &str) -> Result<&mut Tags, Refusal> {
        let found = match params.get_required("ResourceType")?.to_ascii_uppercase().as_str() {
            "EIP" => self.eips.get_mut(id).map(|eip| &mut eip.tags),
            "NATGATEWAY" => self.gateways.get_mut(id).map(|gateway| &mut gateway.tags),
            _ => {
                return Err(Refusal::bad_request(
                    "InvalidResourceType.NotFound",
                    "The ResourceType provided does not exist in our records.",
                ));
            }
        };
        found.ok_or_else(|| {
            Refusal::not_found(
                "InvalidResourceId.NotFound",
                "The specified ResourceIds are not found in our records.",
            )
        })
    }
}

/// Pages as the actions with `NextToken` do; the token is the number of rows already given.
pub(super) fn after_token(
    rows: Vec<Value>,
    params: &Params,
    size: usize,
) -> Result<(Vec<Value>, String), Refusal> {
    let token = params
        .get("NextToken")
        .map(|token| token.parse::<usize>().map_err(|_| Refusal::invalid_parameter("NextToken")));
    let skip = token.transpose()?.unwrap_or(0);
    let next = skip.saturating_add(size);
    let token = if next < rows.len() { next.to_string() } else { String::new() };
    Ok((rows.into_iter().skip(skip).take(size).collect(), token))
}

fn resource_ids(params: &Params) -> Result<Vec<&str>, Refusal> {
    let ids = params.get_list("ResourceId");
    match ids.len() {
        0 => Err(Refusal::missing_parameter("ResourceId.1")),
        1..=50 => Ok(ids),
        _ => Err(Refusal::bad_request(
            "NumberExceed.ResourceIds",
            "The maximum number of ResourceIds is exceeded.",
        )),
    }
}

/// Tags to be set, within the API's limits.
pub(super) fn check_tags(params: &Params) -> Result<Tags, Refusal> {
    let tags = params.get_tags();
    if tags.len() > MAX_TAGS {
        return Err(Refusal::bad_request(
            "NumberExceed.Tags",
            "The maximum number of Tags is exceeded.",
        ));
    }
    let mut checked = Tags::new();
    for (key, value) in tags {
        let value = value.unwrap_or_default();
        let reserved = key.starts_with("aliyun") || key.starts_with("acs:");
        if key.is_empty() || key.chars().count() > 128 || reserved || names_a_site(key) {
            return Err(Refusal::bad_request(
                "InvalidTagKey",
                "The specified tag key is not valid.",
            ));
        }
        if value.chars().count() > 128 || names_a_site(value) {
            return Err(Refusal::bad_request(
                "InvalidTagValue",
                "The specified tag value is not valid.",
            ));
        }
        checked.insert(key.to_owned(), value.to_owned());
    }
    Ok(checked)
}

fn names_a_site(text: &str) -> bool {
    text.contains("http://") || text.contains("https://")
}

/// True if the resource has every wanted tag; a wanted tag without value matches by its key alone.
pub(super) fn matches_tags(tags: &Tags, wanted: &[(&str, Option<&str>)]) -> bool {
    wanted.iter().all(|(key, value)| {
        tags.get(*key).is_some_and(|own| value.is_none_or(|value| value.is_empty() || value == own))
    })
}
