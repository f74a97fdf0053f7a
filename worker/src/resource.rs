//! The custom resource of a lease: read, written, its status shown and cleared, removed.
//!
//! Spoken at `v1beta1`, the stored version: OpenKruiseGame's own definition, where it is installed over ours, has only that one.

use crate::errors::Error;
use crate::worker::Worker;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use waygate_core::lease::Lease;
use waygate_core::plan::{Content, Object, ResourceFact};
use waygate_core::request::Kind;
use waygate_core::resources::{LEASE_ANNOTATION, POD_DNAT_FINALIZER, POD_EIP_FINALIZER, POD_UID_ANNOTATION, PodDNAT, PodEIP};

/// What we ask of a custom resource type.
pub(crate) trait Custom:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize
{
}
impl Custom for PodEIP {}
impl Custom for PodDNAT {}

fn api<K: Custom>(worker: &Worker, lease: &Lease) -> Api<K> {
    Api::namespaced(worker.kube.clone(), &lease.namespace)
}

fn finalizer(kind: Kind) -> &'static str {
    match kind {
        Kind::Eip => POD_EIP_FINALIZER,
        Kind::Dnat => POD_DNAT_FINALIZER,
    }
}

/// The object of the lease's name, and whose it is.
pub(crate) async fn read(worker: &Worker, lease: &Lease) -> Result<ResourceFact, Error> {
    match lease.kind {
        Kind::Eip => Ok(whose(lease, api::<PodEIP>(worker, lease).get_opt(&lease.pod_name).await?, Object::Eip)),
        Kind::Dnat => Ok(whose(lease, api::<PodDNAT>(worker, lease).get_opt(&lease.pod_name).await?, Object::Dnat)),
    }
}

fn whose<K: Custom>(lease: &Lease, object: Option<K>, mine: impl FnOnce(Box<K>) -> Object) -> ResourceFact {
    let Some(object) = object else { return ResourceFact::Absent };
    let owner = object.annotations().get(LEASE_ANNOTATION);
    if owner == Some(&lease.id.to_string()) {
        return ResourceFact::Mine(mine(Box::new(object)));
    }
    let kind = K::kind(&());
    let what = match owner {
        Some(_) => format!("{kind} {}/{} is still held by a former pod of this name", lease.namespace, lease.pod_name),
        None => format!(
            "{kind} {}/{} was not made by Waygate; adopt it, or delete it if its address is not needed",
            lease.namespace, lease.pod_name
        ),
    };
    ResourceFact::Another { what }
}

/// Creates the object with finalizer, lease and spec, or brings its spec up to date.
pub(crate) async fn write(worker: &Worker, lease: &Lease, fact: &ResourceFact, content: &Content) -> Result<(), Error> {
    match (content, fact) {
        (Content::Eip { spec, .. }, ResourceFact::Mine(Object::Eip(object))) => {
            patch(worker, lease, &**object, json!({ "spec": spec })).await
        }
        (Content::Dnat { spec, .. }, ResourceFact::Mine(Object::Dnat(object))) => {
            patch(worker, lease, &**object, json!({ "spec": spec })).await
        }
        (Content::Eip { spec, .. }, _) => {
            create(worker, lease, PodEIP { metadata: metadata(lease), spec: spec.clone(), status: None }).await
        }
        (Content::Dnat { spec, .. }, _) => {
            create(worker, lease, PodDNAT { metadata: metadata(lease), spec: (**spec).clone(), status: None }).await
        }
    }
}

fn metadata(lease: &Lease) -> ObjectMeta {
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: lease.pod_name.clone(),
        uid: lease.pod_uid.to_string(),
        block_owner_deletion: Some(true),
        controller: None,
    };
    ObjectMeta {
        name: Some(lease.pod_name.clone()),
        namespace: Some(lease.namespace.clone()),
        finalizers: Some(vec![finalizer(lease.kind).to_owned()]),
        // A PodEIP has no owner, as the original's has none: it may outlive its pod.
        owner_references: (lease.kind == Kind::Dnat).then(|| vec![owner]),
        annotations: Some(
            [(LEASE_ANNOTATION.to_owned(), lease.id.to_string()), (POD_UID_ANNOTATION.to_owned(), lease.pod_uid.to_string())].into(),
        ),
        ..ObjectMeta::default()
    }
}

async fn create<K: Custom>(worker: &Worker, lease: &Lease, object: K) -> Result<(), Error> {
    api::<K>(worker, lease).create(&PostParams::default(), &object).await?;
    Ok(())
}

/// A merge patch that holds only for the object as it was read.
async fn patch<K: Custom>(worker: &Worker, lease: &Lease, object: &K, mut change: Value) -> Result<(), Error> {
    change["metadata"]["uid"] = json!(object.uid());
    change["metadata"]["resourceVersion"] = json!(object.resource_version());
    api::<K>(worker, lease).patch(&lease.pod_name, &PatchParams::default(), &Patch::Merge(change)).await?;
    Ok(())
}

async fn patch_status<K: Custom>(worker: &Worker, lease: &Lease, object: &K, status: Value) -> Result<(), Error> {
    let change = json!({ "metadata": { "uid": object.uid(), "resourceVersion": object.resource_version() }, "status": status });
    api::<K>(worker, lease).patch_status(&lease.pod_name, &PatchParams::default(), &Patch::Merge(change)).await?;
    Ok(())
}

/// Shows an address in the status. Nothing is written where it stands already.
pub(crate) async fn show(worker: &Worker, lease: &Lease, fact: &ResourceFact, content: &Content) -> Result<(), Error> {
    match (content, fact) {
        (content, ResourceFact::Mine(object)) if content.is(object) => Ok(()),
        (Content::Eip { status, .. }, ResourceFact::Mine(Object::Eip(object))) => {
            patch_status(worker, lease, &**object, json!(status)).await
        }
        (Content::Dnat { status, .. }, ResourceFact::Mine(Object::Dnat(object))) => {
            patch_status(worker, lease, &**object, json!(status)).await
        }
        _ => Err(Error::Changed),
    }
}

/// Takes the address out of the status; what others may have written beside it stays.
pub(crate) async fn clear(worker: &Worker, lease: &Lease, fact: &ResourceFact) -> Result<(), Error> {
    match fact {
        ResourceFact::Mine(Object::Eip(object)) => {
            let nothing = json!({ "eipAddress": null, "privateIPAddress": null, "networkInterfaceID": null, "status": null });
            patch_status(worker, lease, &**object, nothing).await
        }
        ResourceFact::Mine(Object::Dnat(object)) => {
            patch_status(worker, lease, &**object, json!({ "entries": null, "created": null })).await
        }
        ResourceFact::Absent | ResourceFact::Another { .. } => Ok(()),
    }
}

/// Deletes the object and takes our finalizer off, in this order: without the finalizer but not deleted it would be nobody's.
pub(crate) async fn remove(worker: &Worker, lease: &Lease, fact: &ResourceFact) -> Result<(), Error> {
    match fact {
        ResourceFact::Mine(Object::Eip(object)) => remove_object(worker, lease, &**object).await,
        ResourceFact::Mine(Object::Dnat(object)) => remove_object(worker, lease, &**object).await,
        ResourceFact::Absent | ResourceFact::Another { .. } => Ok(()),
    }
}

async fn remove_object<K: Custom>(worker: &Worker, lease: &Lease, object: &K) -> Result<(), Error> {
    let api = api::<K>(worker, lease);
    if object.meta().deletion_timestamp.is_none() {
        let same = Preconditions { uid: object.uid(), resource_version: None };
        api.delete(&lease.pod_name, &DeleteParams::background().preconditions(same)).await?;
    }
    let others: Vec<_> = object.finalizers().iter().filter(|name| *name != finalizer(lease.kind)).collect();
    let change = json!({ "metadata": { "uid": object.uid(), "finalizers": others } });
    match api.patch(&lease.pod_name, &PatchParams::default(), &Patch::Merge(change)).await.map_err(Error::from) {
        Ok(_) | Err(Error::Changed) => Ok(()),
        Err(error) => Err(error),
    }
}
