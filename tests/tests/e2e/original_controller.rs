//! Beside the original controller: pods that it serves are its own.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::PodReadinessGate;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use testbed::{
    address_kinds::{ADDRESS_KINDS, EIP, Kind, count_resources_leading_to},
    leftovers::list_allocated_eips,
    pods::{annotated_pod, annotation_value, find_condition, pod_ip_of},
    stand::Stand,
    wait::TIMEOUT,
};
use waygate_core::resources::{PodDNAT, PodDnatSpec, PodEIP, PodEipSpec};

/// The custom resource of a pod's name as the original writes it: without a lease.
async fn create_foreign_resource(stand: &Stand, kind: Kind) -> Result<()> {
    let how = PostParams::default();
    if kind.gate == EIP.gate {
        let spec =
            PodEipSpec { allocation_id: Some("eip-theirs".to_owned()), ..PodEipSpec::default() };
        Api::namespaced(stand.client.clone(), &stand.namespace)
            .create(&how, &PodEIP::new(kind.pod, spec))
            .await?;
    } else {
        let spec =
            PodDnatSpec { external_ip: Some("198.51.100.1".to_owned()), ..PodDnatSpec::default() };
        Api::namespaced(stand.client.clone(), &stand.namespace)
            .create(&how, &PodDNAT::new(kind.pod, spec))
            .await?;
    }
    Ok(())
}

/// The original answers the pod's gate.
async fn answer_gate_as_original(stand: &Stand, kind: Kind) -> Result<()> {
    let condition = json!({"type": kind.gate, "status": "True", "reason": "Theirs", "message": "theirs", "lastTransitionTime": jiff::Timestamp::now()});
    let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
    stand.pods().patch_status(kind.pod, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// The pod's condition is still the original's.
async fn ensure_condition_is_foreign(stand: &Stand, kind: Kind) -> Result<()> {
    let pod = stand.pods().get(kind.pod).await?;
    let said = find_condition(&pod, kind.gate).context("the original's condition")?;
    ensure!(
        (said.status.as_str(), said.reason.as_deref()) == ("True", Some("Theirs")),
        "it says {said:?}"
    );
    ensure!(annotation_value(&pod, kind.address_key).is_none(), "an address was published");
    Ok(())
}

/// Waits until the pod's lease has been looked at after that claim; says by which.
async fn wait_for_next_claim(stand: &Stand, pod: &str, after: i64) -> Result<i64> {
    let probe = || async {
        let query = "SELECT epoch::bigint FROM lease WHERE pod_name = $1 AND owner IS NULL AND reason = 'CustomResourceTaken'";
        let epoch: Option<i64> =
            sqlx::query_scalar(query).bind(pod).fetch_optional(&stand.database).await?;
        Ok(epoch.filter(|epoch| *epoch > after))
    };
    stand.eventually(probe, "the lease waits for the custom resource", TIMEOUT).await
}

#[tokio::test]
async fn a_pod_that_the_original_serves_gets_nothing_and_keeps_its_condition() -> Result<()> {
    let stand = Stand::start().await?;
    for kind in ADDRESS_KINDS {
        create_foreign_resource(&stand, kind).await?;
        stand.create_pod(&kind.requesting_pod(&[])).await?;
        answer_gate_as_original(&stand, kind).await?;
        stand.wait_for_warning(kind.pod, "CustomResourceTaken", TIMEOUT).await?;
        let pod = stand.wait_for_condition(kind.pod, "Ready", "True", TIMEOUT).await?;
        let claim = wait_for_next_claim(&stand, kind.pod, 0).await?;
        stand.wake_leases().await?;
        wait_for_next_claim(&stand, kind.pod, claim).await?;
        ensure_condition_is_foreign(&stand, kind).await?;
        assert_eq!(
            (
                count_resources_leading_to(&stand, pod_ip_of(&pod)).await?,
                list_allocated_eips(&stand).await?.len()
            ),
            (0, 0)
        );

        // The lease ends without an event, and leaves the original's custom resource.
        stand
            .annotate_pod(
                kind.pod,
                kind.request.iter().map(|(key, _)| ((*key).to_owned(), json!(null))).collect(),
            )
            .await?;
        let forgotten = || async {
            let leases: i64 =
                sqlx::query_scalar("SELECT count(*) FROM lease").fetch_one(&stand.database).await?;
            Ok((leases == 0).then_some(()))
        };
        stand.eventually(forgotten, "the lease is forgotten", TIMEOUT).await?;
        ensure_condition_is_foreign(&stand, kind).await?;
        ensure!(
            kind.count_shown_addresses(&stand, pod_ip_of(&pod)).await? == 0,
            "the custom resource is still there, and shows nothing of ours"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_gate_that_the_original_answers_is_left_to_it() -> Result<()> {
    let stand = Stand::start().await?;
    let gated = |name| {
        let mut pod = annotated_pod(name, &[]);
        let gates = vec![PodReadinessGate { condition_type: EIP.gate.to_owned() }];
        pod.spec.iter_mut().for_each(|spec| spec.readiness_gates = Some(gates.clone()));
        pod
    };
    create_foreign_resource(&stand, EIP).await?;
    stand.create_pod(&gated(EIP.pod)).await?;
    answer_gate_as_original(&stand, EIP).await?;
    // Observed later and answered, which shows that the first pod was observed, too.
    stand.create_pod(&gated("unowned")).await?;
    stand.wait_for_condition("unowned", EIP.gate, "True", TIMEOUT).await?;
    ensure_condition_is_foreign(&stand, EIP).await
}
