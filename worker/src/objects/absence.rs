//! Proof that an object is absent: the API server says so itself, and names the object.
//!
//! Other 404s prove nothing: a proxy's, a page of HTML, that of a path or a definition which is not
//! there, or of another object.

use crate::errors::{Error, names_missing_object};
use kube::Resource;
use kube::core::Status;

/// Turns the answer to a read by name into the object, or none where the API server proves that it
/// has none of this name. Any other 404 is an error.
pub(crate) fn none_if_absent<K: Resource<DynamicType = ()>, T>(
    answer: Result<T, kube::Error>,
    name: &str,
) -> Result<Option<T>, Error> {
    match answer {
        Ok(object) => Ok(Some(object)),
        Err(kube::Error::Api(status)) if proves_absent::<K>(&status, name) => Ok(None),
        // Not by `From`, which takes what a 404 names for an object that has gone since its read.
        Err(error @ kube::Error::Api(_)) => Err(Error::Kube(Box::new(error))),
        Err(error) => Err(error.into()),
    }
}

/// True if the answer is the API server's own and says that the object of this name is not there.
fn proves_absent<K: Resource<DynamicType = ()>>(status: &Status, name: &str) -> bool {
    status.is_failure()
        && names_missing_object(status)
        && status.details.as_ref().is_some_and(|details| {
            details.kind == K::plural(&()) && details.group == K::group(&()) && details.name == name
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};
    use waygate_core::resources::PodEIP;

    fn read<K: Resource<DynamicType = ()>>(answer: Value) -> Result<Option<()>, Error> {
        let status: Status = serde_json::from_value(answer).unwrap();
        none_if_absent::<K, ()>(Err(kube::Error::Api(status.boxed())), "web-0")
    }

    fn not_found(details: &Value) -> Value {
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "not found", "reason": "NotFound", "code": 404, "details": details})
    }

    #[test]
    fn only_a_status_that_names_the_object_proves_it_absent() {
        let pod = json!({"name": "web-0", "kind": "pods"});
        assert!(matches!(read::<Pod>(not_found(&pod)), Ok(None)));
        let eip = json!({"name": "web-0", "kind": "podeips", "group": "alibabacloud.com"});
        assert!(matches!(read::<PodEIP>(not_found(&eip)), Ok(None)));
        let mut refused = vec![
            not_found(&json!({})),
            not_found(&eip),
            not_found(&json!({"name": "web-1", "kind": "pods"})),
            not_found(&json!({"name": "games", "kind": "namespaces"})),
            json!({}),
            json!({"message": "no such route", "code": 404}),
        ];
        for (field, value) in [
            ("status", json!("Success")),
            ("reason", json!("Unknown")),
            ("code", json!(410)),
            ("details", Value::Null),
        ] {
            let mut changed = not_found(&pod);
            changed[field] = value;
            refused.push(changed);
        }
        for answer in refused {
            let read = read::<Pod>(answer.clone());
            assert!(matches!(read, Err(Error::Kube(_))), "{answer}: {read:?}");
        }
    }
}
