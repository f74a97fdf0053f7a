//! Both kinds of address, for what must hold of either.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use waygate_core::resources::{PodDNAT, PodEIP};

use crate::{
    pods::{annotated_pod, annotation_value, condition_status, pod_ip_of, pod_phase},
    stand::Stand,
    wait::TIMEOUT,
};

/// A kind of address, and a pod that asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Name of the example pod.
    pub pod: &'static str,
    /// The readiness gate, and the condition that answers it.
    pub gate: &'static str,
    /// The annotations by which a pod asks.
    pub request: &'static [(&'static str, &'static str)],
    /// The annotation with the allocated address.
    pub address_key: &'static str,
    /// Number of EIPs or forward entries that lead to a pod that asks like this.
    pub resource_count: usize,
}

/// The kind of pods that ask for an EIP.
pub const EIP: Kind = Kind {
    pod: "with-eip",
    gate: "k8s.aliyun.com/eip",
    request: &[("k8s.aliyun.com/pod-with-eip", "true")],
    address_key: "k8s.aliyun.com/allocated-eipAddress",
    resource_count: 1,
};
/// The kind of pods that ask for ports of a NAT gateway.
pub const DNAT: Kind = Kind {
    pod: "with-dnat",
    gate: "k8s.aliyun.com/dnat",
    request: &[
        ("k8s.aliyun.com/pod-dnat", "true"),
        ("k8s.aliyun.com/pod-dnat-expose-port", "80,443"),
    ],
    address_key: "k8s.aliyun.com/allocated-dnat",
    resource_count: 2,
};
/// EIP and DNAT, for tests that run on each.
pub const ADDRESS_KINDS: [Kind; 2] = [EIP, DNAT];

/// Counts the bound EIPs and working forward entries that lead to an IP.
pub async fn count_resources_leading_to(stand: &Stand, ip: &str) -> Result<usize> {
    let state = stand.cloud.read_state().await?;
    let count = |list: &str, address: &str, works: &str| {
        let things = state[list].as_array().map(Vec::as_slice).unwrap_or_default();
        things.iter().filter(|thing| thing[address] == ip && thing["Status"] == works).count()
    };
    Ok(count("eips", "PrivateIpAddress", "InUse")
        + count("forwardEntries", "InternalIp", "Available"))
}

impl Kind {
    /// Makes a pod that asks for it, and that its node treats as these annotations say.
    #[must_use]
    pub fn requesting_pod(&self, node: &[(&str, &str)]) -> Pod {
        annotated_pod(self.pod, &[self.request, node].concat())
    }

    /// Waits until its pod has its address.
    pub async fn wait_until_it_works(&self, stand: &Stand) -> Result<Pod> {
        stand.wait_for_condition(self.pod, self.gate, "True", TIMEOUT).await
    }

    /// Counts the addresses that the custom resource of its pod shows for an IP.
    pub async fn count_shown_addresses(&self, stand: &Stand, ip: &str) -> Result<usize> {
        let namespace = &stand.namespace;
        if self.gate == EIP.gate {
            let status = Api::<PodEIP>::namespaced(stand.client.clone(), namespace)
                .get(self.pod)
                .await?
                .status
                .unwrap_or_default();
            return Ok(usize::from(
                status.eip_address.is_some() && status.private_ip_address.as_deref() == Some(ip),
            ));
        }
        let status = Api::<PodDNAT>::namespaced(stand.client.clone(), namespace)
            .get(self.pod)
            .await?
            .status
            .unwrap_or_default();
        Ok(status
            .entries
            .iter()
            .flatten()
            .filter(|entry| entry.internal_ip.as_deref() == Some(ip))
            .count())
    }

    /// Counts looks at a pod that is being deleted, until it has exited; fails if its address does
    /// not work and stand as before until then.
    pub async fn watch_address_until_exit(&self, stand: &Stand, before: &Pod) -> Result<usize> {
        let mut looks = 0;
        let probe = || {
            looks += 1;
            self.check_until_exit(stand, before)
        };
        let broken = stand.eventually(probe, "the pod has exited", TIMEOUT).await?;
        ensure!(broken.is_none(), "at look {looks}: {}", broken.unwrap_or_default());
        Ok(looks - 1)
    }

    /// Returns `None` while the pod runs and has its address, `Some(Some(fault))` if the address is
    /// missing before the exit, `Some(None)` once the pod has exited.
    async fn check_until_exit(
        &self,
        stand: &Stand,
        before: &Pod,
    ) -> Result<Option<Option<String>>> {
        let ip = pod_ip_of(before);
        // Looked at before the pod: if that runs afterwards, it ran then.
        let (things, shown) = (
            count_resources_leading_to(stand, ip).await?,
            self.count_shown_addresses(stand, ip).await.unwrap_or_default(),
        );
        let Some(pod) =
            stand.pods().get_opt(self.pod).await?.filter(|pod| pod_phase(pod) == "Running")
        else {
            return Ok(Some(None));
        };
        let same_annotation =
            annotation_value(&pod, self.address_key) == annotation_value(before, self.address_key);
        let gate = condition_status(&pod, self.gate);
        if things == self.resource_count
            && shown == self.resource_count
            && same_annotation
            && gate == Some("True")
        {
            return Ok(None);
        }
        Ok(Some(Some(format!(
            "{things} resources lead to {ip}, {shown} are shown, same annotation: {same_annotation}, gate {gate:?}"
        ))))
    }
}
