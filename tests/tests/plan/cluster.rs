//! Pods and custom resources, as an API server keeps them: every write bumps a version, and a write
//! with a stale version is refused.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use waygate_core::condition::ConditionState;
use waygate_core::ids::{LeaseId, PodUid};
use waygate_core::lease::{Lease, Phase};
use waygate_core::plan::{
    CustomResourceContent, CustomResourceObject, CustomResourceState, Deletion, Desired, PodState,
    PodView, Successor,
};
use waygate_core::request::{Kind, Request, Retention};
use waygate_core::resources::{POD_UID_ANNOTATION, PodDNAT, PodEIP};

/// A pod of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub name: String,
    pub uid: PodUid,
    pub created_at: Timestamp,
    pub version: u64,
    pub ip: Option<Ipv4Addr>,
    pub exited: bool,
    pub terminating: bool,
    /// `Kind/name` of its controller, where that is a stateful one.
    pub controller: Option<String>,
    pub request: Option<Request>,
    /// Published condition and annotation, by kind.
    pub conditions: BTreeMap<Kind, ConditionState>,
    pub address_annotations: BTreeMap<Kind, String>,
}

impl Pod {
    pub(crate) fn pod_view(&self, kind: Kind) -> PodView {
        PodView {
            ip: self.ip,
            node: Some("node".to_owned()),
            exited: self.exited,
            terminating: self.terminating,
            has_gate: true,
            desired: match &self.request {
                Some(request) if request.kind() == kind => {
                    Desired::Request(Box::new(request.clone()))
                }
                _ => Desired::Nothing,
            },
            condition: self.conditions.get(&kind).cloned(),
            annotation: self.address_annotations.get(&kind).cloned(),
        }
    }
}

/// A custom resource of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    pub version: u64,
    pub lease: LeaseId,
    pub object: CustomResourceObject,
    /// Deletion timestamp and its cause; Waygate's finalizer keeps the object meanwhile.
    pub removal: Deletion,
}

impl Resource {
    /// True if this pod owns the resource, so that the garbage collector deletes both.
    fn is_owned_by(&self, pod: &PodUid) -> bool {
        let metadata = match &self.object {
            CustomResourceObject::Eip(object) => &object.metadata,
            CustomResourceObject::Dnat(object) => &object.metadata,
        };
        metadata.owner_references.iter().flatten().any(|owner| owner.uid == pod.as_str())
    }
}

/// The cluster's objects by name.
#[derive(Default)]
pub(crate) struct Cluster {
    pub pods: BTreeMap<String, Pod>,
    pub resources: BTreeMap<(Kind, String), Resource>,
    version: u64,
}

/// The object is not what it was when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Changed;

impl Cluster {
    pub(crate) fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// The pod of a lease by a live read, and its version.
    pub(crate) fn read_pod(&self, name: &str, uid: &PodUid, kind: Kind) -> (PodState, u64) {
        match self.pods.get(name) {
            Some(pod) if pod.uid == *uid => {
                (PodState::Present(Box::new(pod.pod_view(kind))), pod.version)
            }
            Some(_) => (PodState::Absent, 0),
            None => (PodState::NotFound, 0),
        }
    }

    /// A pod of the lease's name that is another, and asks for the like.
    pub(crate) fn read_successor(&self, lease: &Lease) -> Option<Successor> {
        let pod = self
            .pods
            .get(&lease.pod_name)
            .filter(|pod| pod.uid != lease.pod_uid && !pod.exited && !pod.terminating)?;
        let request = pod.request.clone().filter(|request| request.kind() == lease.kind)?;
        Some(Successor { uid: pod.uid.clone(), controller: pod.controller.clone(), request })
    }

    /// The custom resource of a lease's name, and its version.
    pub(crate) fn read_resource(
        &self,
        lease: &Lease,
        knows: impl Fn(&LeaseId) -> bool,
    ) -> (CustomResourceState, u64) {
        let Some(resource) = self.resources.get(&(lease.kind, lease.pod_name.clone())) else {
            return (CustomResourceState::Absent, 0);
        };
        let state = if resource.lease == lease.id {
            let removal = match resource.removal {
                Deletion::Cascaded if lease.phase != Phase::Retained => Deletion::Requested,
                removal => removal,
            };
            CustomResourceState::Owned(resource.object.clone(), removal)
        } else if resource.object.pod_uid() != Some(lease.pod_uid.as_str())
            && !knows(&resource.lease)
        {
            CustomResourceState::Orphaned
        } else {
            CustomResourceState::OtherLease { message: format!("held by {}", resource.lease) }
        };
        (state, resource.version)
    }

    /// Deletes the pod, and as garbage collector the resources it owns; returns the leases to wake.
    pub(crate) fn remove_pod(&mut self, name: &str) -> Option<(Pod, Vec<LeaseId>)> {
        let pod = self.pods.remove(name)?;
        let owned = self.resources.iter().filter(|(_, resource)| resource.is_owned_by(&pod.uid));
        let owned: Vec<_> = owned.map(|(key, _)| key.clone()).collect();
        let leases = owned
            .into_iter()
            .filter_map(|key| self.delete_resource(&key, Deletion::Requested))
            .collect();
        Some((pod, leases))
    }

    /// Deletes a custom resource as a person would; Waygate's finalizer keeps the object. Returns
    /// the lease to wake.
    pub(crate) fn delete_resource(
        &mut self,
        key: &(Kind, String),
        removal: Deletion,
    ) -> Option<LeaseId> {
        let next = self.next_version();
        let resource = self
            .resources
            .get_mut(key)
            .filter(|resource| resource.removal != Deletion::Requested)?;
        (resource.removal, resource.version) = (removal, next);
        Some(resource.lease)
    }

    /// Changes a pod that is still the one that was read; gives its new version.
    pub(crate) fn patch_pod(
        &mut self,
        name: &str,
        version: u64,
        change: impl FnOnce(&mut Pod),
    ) -> Result<u64, Changed> {
        let next = self.next_version();
        let pod = self.pods.get_mut(name).filter(|pod| pod.version == version).ok_or(Changed)?;
        change(pod);
        pod.version = next;
        Ok(next)
    }

    /// Writes the spec: creates the resource where none was read, patches the one that was.
    pub(crate) fn write_spec(
        &mut self,
        lease: &Lease,
        version: u64,
        content: &CustomResourceContent,
    ) -> Result<(), Changed> {
        let next = self.next_version();
        let (kind, name) = (lease.kind, lease.pod_name.as_str());
        let mut object = match content {
            CustomResourceContent::Eip { spec, .. } => {
                CustomResourceObject::Eip(Box::new(PodEIP::new(name, spec.clone())))
            }
            CustomResourceContent::Dnat { spec, .. } => {
                CustomResourceObject::Dnat(Box::new(PodDNAT::new(name, (**spec).clone())))
            }
        };
        let metadata = match &mut object {
            CustomResourceObject::Eip(object) => &mut object.metadata,
            CustomResourceObject::Dnat(object) => &mut object.metadata,
        };
        metadata.annotations =
            Some([(POD_UID_ANNOTATION.to_owned(), lease.pod_uid.to_string())].into());
        // A resource that may outlive its pod has no owner; one without an owner gets none later.
        let owned =
            kind == Kind::Dnat && lease.request.retention() == Retention::None && version == 0;
        metadata.owner_references = owned.then(|| vec![pod_owner_reference(lease)]);
        let key = (kind, name.to_owned());
        match (self.resources.get_mut(&key), version) {
            (None, 0) => {
                self.resources.insert(
                    key,
                    Resource { version: next, lease: lease.id, object, removal: Deletion::None },
                );
            }
            (Some(resource), _) if resource.version == version => {
                match (&mut resource.object, object) {
                    (CustomResourceObject::Eip(old), CustomResourceObject::Eip(new)) => {
                        (old.spec, old.metadata.annotations) = (new.spec, new.metadata.annotations);
                    }
                    (CustomResourceObject::Dnat(old), CustomResourceObject::Dnat(new)) => {
                        (old.spec, old.metadata.annotations) = (new.spec, new.metadata.annotations);
                    }
                    _ => return Err(Changed),
                }
                resource.version = next;
            }
            _ => return Err(Changed),
        }
        Ok(())
    }

    /// Shows an address in the status, or with `None` takes it away.
    pub(crate) fn write_status(
        &mut self,
        name: &str,
        kind: Kind,
        version: u64,
        content: Option<&CustomResourceContent>,
    ) -> Result<(), Changed> {
        let next = self.next_version();
        let key = (kind, name.to_owned());
        let resource = self
            .resources
            .get_mut(&key)
            .filter(|resource| resource.version == version)
            .ok_or(Changed)?;
        match (&mut resource.object, content) {
            (
                CustomResourceObject::Eip(object),
                Some(CustomResourceContent::Eip { status, .. }),
            ) => {
                object.status = status.as_deref().cloned();
            }
            (
                CustomResourceObject::Dnat(object),
                Some(CustomResourceContent::Dnat { status, .. }),
            ) => {
                object.status.clone_from(status);
            }
            (CustomResourceObject::Eip(object), None) => object.status = None,
            (CustomResourceObject::Dnat(object), None) => object.status = None,
            _ => return Err(Changed),
        }
        resource.version = next;
        Ok(())
    }

    /// Deletes the resource, if it still is as it was read.
    pub(crate) fn remove_resource(&mut self, name: &str, kind: Kind, version: u64) {
        let key = (kind, name.to_owned());
        if self.resources.get(&key).is_some_and(|resource| resource.version == version) {
            self.resources.remove(&key);
        }
    }
}

fn pod_owner_reference(lease: &Lease) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: lease.pod_name.clone(),
        uid: lease.pod_uid.to_string(),
        ..OwnerReference::default()
    }
}
