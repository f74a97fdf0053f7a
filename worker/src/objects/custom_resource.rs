//! The custom resource (PodEIP or PodDNAT) of a lease: reads it, writes spec and status, removes
//! it.
//!
//! The API version used is `v1beta1`, the stored one: OpenKruiseGame's own definition, where an
//! operator has installed it over Waygate's, has no other.

use crate::context::Worker;
use crate::errors::Error;
use crate::objects::absence::none_if_absent;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{
    DeleteParams, ObjectMeta, PartialObjectMeta, Patch, PatchParams, PostParams, Preconditions,
};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use waygate_core::ids::LeaseId;
use waygate_core::lease::{Lease, Phase};
use waygate_core::plan::{
    CustomResourceContent, CustomResourceObject, CustomResourceState, Deletion,
};
use waygate_core::request::{Kind, Retention};
use waygate_core::resources::{
    LEASE_ANNOTATION, POD_DNAT_FINALIZER, POD_EIP_FINALIZER, POD_UID_ANNOTATION, PodDNAT, PodEIP,
    RELEASE_ANNOTATION,
};

/// Bounds that PodEIP and PodDNAT share, so that one function serves both.
pub(crate) trait CustomResource:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
    + 'static
{
}
impl CustomResource for PodEIP {}
impl CustomResource for PodDNAT {}

fn resource_api<K: CustomResource>(worker: &Worker, lease: &Lease) -> Api<K> {
    Api::namespaced(worker.kube.clone(), &lease.namespace)
}

/// Field manager of Waygate's own writes: what another manager writes wakes the lease.
pub(crate) const FIELD_MANAGER: &str = "waygate-worker";

fn create_params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

fn patch_params() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

fn finalizer_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Eip => POD_EIP_FINALIZER,
        Kind::Dnat => POD_DNAT_FINALIZER,
    }
}

/// Reads the object of the lease's pod name and classifies it: owned by this lease, orphaned, of
/// another lease, or foreign.
pub(crate) async fn observe_custom_resource(
    worker: &Worker,
    lease: &Lease,
) -> Result<CustomResourceState, Error> {
    match lease.kind {
        Kind::Eip => observe_as::<PodEIP>(worker, lease, CustomResourceObject::Eip).await,
        Kind::Dnat => observe_as::<PodDNAT>(worker, lease, CustomResourceObject::Dnat).await,
    }
}

/// Classifies the object's deletion. A deletion that comes with that of its namespace or definition
/// does not release a retained address, unless the release annotation says that it should.
async fn classify_deletion<K: CustomResource>(
    worker: &Worker,
    lease: &Lease,
    object: &K,
) -> Result<Deletion, Error> {
    if object.meta().deletion_timestamp.is_none() {
        return Ok(Deletion::None);
    }
    if object.annotations().get(RELEASE_ANNOTATION).is_some_and(|value| value == "true")
        || lease.phase != Phase::Retained
    {
        return Ok(Deletion::Requested);
    }
    let namespaces = Api::<Namespace>::all(worker.kube.clone());
    let answer = namespaces.get_metadata(&lease.namespace).await;
    let namespace = none_if_absent::<Namespace, _>(answer, &lease.namespace)?;
    let definition = read_definition::<K>(worker).await?;
    let stays = |meta: &ObjectMeta| meta.deletion_timestamp.is_none();
    let requested = namespace.is_some_and(|it| stays(&it.metadata))
        && definition.is_some_and(|it| stays(&it.metadata));
    Ok(if requested { Deletion::Requested } else { Deletion::Cascaded })
}

async fn read_definition<K: CustomResource>(
    worker: &Worker,
) -> Result<Option<PartialObjectMeta<CustomResourceDefinition>>, Error> {
    let name = format!("{}.{}", K::plural(&()), K::group(&()));
    let definitions = Api::<CustomResourceDefinition>::all(worker.kube.clone());
    none_if_absent::<CustomResourceDefinition, _>(definitions.get_metadata(&name).await, &name)
}

/// Reads the object of the lease's pod name. Where its definition is gone, no object exists, though
/// the API server's answer names none.
async fn read_object<K: CustomResource>(
    worker: &Worker,
    lease: &Lease,
) -> Result<Option<K>, Error> {
    let answer = resource_api::<K>(worker, lease).get(&lease.pod_name).await;
    let unnamed = matches!(&answer, Err(kube::Error::Api(status)) if status.code == 404);
    match none_if_absent::<K, K>(answer, &lease.pod_name) {
        Err(_) if unnamed && read_definition::<K>(worker).await?.is_none() => Ok(None),
        read => read,
    }
}

async fn observe_as<K: CustomResource>(
    worker: &Worker,
    lease: &Lease,
    wrap: fn(Box<K>) -> CustomResourceObject,
) -> Result<CustomResourceState, Error> {
    let Some(object) = read_object::<K>(worker, lease).await? else {
        return Ok(CustomResourceState::Absent);
    };
    let owner = object.annotations().get(LEASE_ANNOTATION);
    if owner == Some(&lease.id.to_string()) {
        let deletion = classify_deletion(worker, lease, &object).await?;
        return Ok(CustomResourceState::Owned(wrap(Box::new(object)), deletion));
    }
    let described_pod = object.annotations().get(POD_UID_ANNOTATION);
    // Orphaned: of a lease that the store no longer has, and of another pod than this lease's.
    if let Some(other) = owner.and_then(|id| id.parse().ok()).map(LeaseId)
        && described_pod.is_some_and(|uid| uid != lease.pod_uid.as_str())
        && worker.store.filter_existing(&[other]).await?.is_empty()
    {
        return Ok(CustomResourceState::Orphaned);
    }
    let kind = K::kind(&());
    let name = format!("{kind} {}/{}", lease.namespace, lease.pod_name);
    Ok(match owner {
        Some(_) => CustomResourceState::OtherLease {
            message: format!(
                "{name} belongs to a former pod of this name, or is retained for its \
                 controller's next pod; delete it to release its address"
            ),
        },
        None => CustomResourceState::Foreign {
            message: format!(
                "{name} was not made by Waygate, which leaves the pod to the controller that made \
                 it; delete the {kind} if its address is not needed"
            ),
        },
    })
}

/// True if the custom resource of the pod's name lacks the lease annotation: another controller
/// made it.
pub(crate) async fn is_foreign(worker: &Worker, pod: &Pod, kind: Kind) -> Result<bool, Error> {
    match kind {
        Kind::Eip => is_foreign_as::<PodEIP>(worker, pod).await,
        Kind::Dnat => is_foreign_as::<PodDNAT>(worker, pod).await,
    }
}

async fn is_foreign_as<K: CustomResource>(worker: &Worker, pod: &Pod) -> Result<bool, Error> {
    let api = Api::<K>::namespaced(worker.kube.clone(), &pod.namespace().unwrap_or_default());
    let object = none_if_absent::<K, _>(api.get_metadata(&pod.name_any()).await, &pod.name_any())?;
    Ok(object.is_some_and(|object| !object.annotations().contains_key(LEASE_ANNOTATION)))
}

/// Creates the object with finalizer, lease annotation and spec, or updates the spec of the lease's
/// own object.
pub(crate) async fn write_spec(
    worker: &Worker,
    lease: &Lease,
    state: &CustomResourceState,
    content: &CustomResourceContent,
) -> Result<(), Error> {
    match (content, state) {
        (
            CustomResourceContent::Eip { spec, .. },
            CustomResourceState::Owned(CustomResourceObject::Eip(object), _),
        ) => patch_object(worker, lease, &**object, json!({ "spec": spec })).await,
        (
            CustomResourceContent::Dnat { spec, .. },
            CustomResourceState::Owned(CustomResourceObject::Dnat(object), _),
        ) => patch_object(worker, lease, &**object, json!({ "spec": spec })).await,
        (CustomResourceContent::Eip { spec, .. }, _) => {
            create_object(
                worker,
                lease,
                PodEIP { metadata: new_metadata(lease), spec: spec.clone(), status: None },
            )
            .await
        }
        (CustomResourceContent::Dnat { spec, .. }, _) => {
            create_object(
                worker,
                lease,
                PodDNAT { metadata: new_metadata(lease), spec: (**spec).clone(), status: None },
            )
            .await
        }
    }
}

fn new_metadata(lease: &Lease) -> ObjectMeta {
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
        finalizers: Some(vec![finalizer_name(lease.kind).to_owned()]),
        // An owner reference would delete the object with the pod. An object that may outlive its
        // pod has none, nor has any PodEIP, as in ack-extend-network-controller.
        owner_references: (lease.kind == Kind::Dnat
            && lease.request.retention() == Retention::None)
            .then(|| vec![owner]),
        annotations: Some(
            [
                (LEASE_ANNOTATION.to_owned(), lease.id.to_string()),
                (POD_UID_ANNOTATION.to_owned(), lease.pod_uid.to_string()),
            ]
            .into(),
        ),
        ..ObjectMeta::default()
    }
}

async fn create_object<K: CustomResource>(
    worker: &Worker,
    lease: &Lease,
    object: K,
) -> Result<(), Error> {
    resource_api::<K>(worker, lease).create(&create_params(), &object).await?;
    Ok(())
}

/// Applies a merge patch on condition that the object is unchanged since it was read.
async fn patch_object<K: CustomResource>(
    worker: &Worker,
    lease: &Lease,
    object: &K,
    mut change: Value,
) -> Result<(), Error> {
    // The pod of a retained object changes when a successor takes the lease over.
    change["metadata"]["annotations"] = json!({ POD_UID_ANNOTATION: lease.pod_uid });
    change["metadata"]["uid"] = json!(object.uid());
    change["metadata"]["resourceVersion"] = json!(object.resource_version());
    resource_api::<K>(worker, lease)
        .patch(&lease.pod_name, &patch_params(), &Patch::Merge(change))
        .await?;
    Ok(())
}

async fn patch_status<K: CustomResource>(
    worker: &Worker,
    lease: &Lease,
    object: &K,
    status: Value,
) -> Result<(), Error> {
    let change = json!({
        "metadata": { "uid": object.uid(), "resourceVersion": object.resource_version() },
        "status": status,
    });
    resource_api::<K>(worker, lease)
        .patch_status(&lease.pod_name, &patch_params(), &Patch::Merge(change))
        .await?;
    Ok(())
}

/// Publishes an address in the status of the lease's own object; no write where the status already
/// shows it.
pub(crate) async fn publish_in_status(
    worker: &Worker,
    lease: &Lease,
    state: &CustomResourceState,
    content: &CustomResourceContent,
) -> Result<(), Error> {
    match (content, state) {
        (content, CustomResourceState::Owned(object, _)) if content.matches_object(object) => {
            Ok(())
        }
        (
            CustomResourceContent::Eip { status, .. },
            CustomResourceState::Owned(CustomResourceObject::Eip(object), _),
        ) => patch_status(worker, lease, &**object, json!(status)).await,
        (
            CustomResourceContent::Dnat { status, .. },
            CustomResourceState::Owned(CustomResourceObject::Dnat(object), _),
        ) => patch_status(worker, lease, &**object, json!(status)).await,
        _ => Err(Error::Changed),
    }
}

/// Removes the address from the status; fields that other controllers wrote there stay.
pub(crate) async fn clear_status(
    worker: &Worker,
    lease: &Lease,
    state: &CustomResourceState,
) -> Result<(), Error> {
    match state {
        CustomResourceState::Owned(CustomResourceObject::Eip(object), _) => {
            let nothing = json!({
                "eipAddress": null, "privateIPAddress": null, "networkInterfaceID": null,
                "status": null,
            });
            patch_status(worker, lease, &**object, nothing).await
        }
        CustomResourceState::Owned(CustomResourceObject::Dnat(object), _) => {
            patch_status(worker, lease, &**object, json!({ "entries": null, "created": null }))
                .await
        }
        CustomResourceState::Absent
        | CustomResourceState::Orphaned
        | CustomResourceState::OtherLease { .. }
        | CustomResourceState::Foreign { .. } => Ok(()),
    }
}

/// Deletes the object and then removes Waygate's finalizer. In the other order, a crash in between
/// would leave an object that no finalizer and no lease removes.
pub(crate) async fn remove_custom_resource(
    worker: &Worker,
    lease: &Lease,
    state: &CustomResourceState,
) -> Result<(), Error> {
    match state {
        CustomResourceState::Owned(CustomResourceObject::Eip(object), _) => {
            remove_object(worker, lease, &**object).await
        }
        CustomResourceState::Owned(CustomResourceObject::Dnat(object), _) => {
            remove_object(worker, lease, &**object).await
        }
        CustomResourceState::Orphaned => match lease.kind {
            Kind::Eip => remove_orphan::<PodEIP>(worker, lease).await,
            Kind::Dnat => remove_orphan::<PodDNAT>(worker, lease).await,
        },
        CustomResourceState::Absent
        | CustomResourceState::OtherLease { .. }
        | CustomResourceState::Foreign { .. } => Ok(()),
    }
}

/// Removes an orphaned object, provided that a new read shows it still names another pod.
async fn remove_orphan<K: CustomResource>(worker: &Worker, lease: &Lease) -> Result<(), Error> {
    match read_object::<K>(worker, lease).await? {
        Some(object)
            if object
                .annotations()
                .get(POD_UID_ANNOTATION)
                .is_some_and(|uid| uid != lease.pod_uid.as_str()) =>
        {
            remove_object(worker, lease, &object).await
        }
        _ => Err(Error::Changed),
    }
}

async fn remove_object<K: CustomResource>(
    worker: &Worker,
    lease: &Lease,
    object: &K,
) -> Result<(), Error> {
    let api = resource_api::<K>(worker, lease);
    if object.meta().deletion_timestamp.is_none() {
        // By UID only: the status may change meanwhile, but an object made anew must stay.
        let same = Preconditions { uid: object.uid(), resource_version: None };
        api.delete(&lease.pod_name, &DeleteParams::background().preconditions(same)).await?;
    }
    let others: Vec<_> =
        object.finalizers().iter().filter(|name| *name != finalizer_name(lease.kind)).collect();
    let change = json!({ "metadata": { "uid": object.uid(), "finalizers": others } });
    match api
        .patch(&lease.pod_name, &patch_params(), &Patch::Merge(change))
        .await
        .map_err(Error::from)
    {
        Ok(_) | Err(Error::Changed) => Ok(()),
        Err(error) => Err(error),
    }
}
