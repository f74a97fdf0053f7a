//! Beside the original controller: pods that it serves are its own.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::PodReadinessGate;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use testbed::{
    kinds::{BOTH, EIP, Kind, lead_to},
    nothing_left::eips_of_ours,
    pods::{annotated, annotation, ip, whole_condition},
    stand::Stand,
    wait::PATIENCE,
};
use waygate_core::resources::{PodDNAT, PodDnatSpec, PodEIP, PodEipSpec};

/// The custom resource of a pod's name as the original writes it: without a lease.
async fn made_by_the_original(stand: &Stand, kind: Kind) -> Result<()> {
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
async fn answer(stand: &Stand, kind: Kind) -> Result<()> {
    let condition = json!({"type": kind.gate, "status": "True", "reason": "Theirs", "message": "theirs", "lastTransitionTime": jiff::Timestamp::now()});
    let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
    stand.pods().patch_status(kind.pod, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// The pod's condition is still the original's.
async fn is_still_answered(stand: &Stand, kind: Kind) -> Result<()> {
    let pod = stand.pods().get(kind.pod).await?;
    let said = whole_condition(&pod, kind.gate).context("the original's condition")?;
    ensure!(
        (said.status.as_str(), said.reason.as_deref()) == ("True", Some("Theirs")),
        "it says {said:?}"
    );
    ensure!(annotation(&pod, kind.tells).is_none(), "an address was published");
    Ok(())
}

/// Waits until the pod's lease has been looked at after that claim; says by which.
async fn looked_at(stand: &Stand, pod: &str, after: i64) -> Result<i64> {
    let probe = || async {
        let lease = "SELECT epoch::bigint FROM lease WHERE pod_name = $1 AND owner IS NULL AND reason = 'CustomResourceTaken'";
        let epoch: Option<i64> =
            sqlx::query_scalar(lease).bind(pod).fetch_optional(&stand.database).await?;
        Ok(epoch.filter(|epoch| *epoch > after))
    };
    stand.eventually(probe, "the lease waits for the custom resource", PATIENCE).await
}

#[tokio::test]
async fn for_a_pod_that_the_original_serves_nothing_is_bought_and_its_condition_stands()
-> Result<()> {
    let stand = Stand::start().await?;
    for kind in BOTH {
        made_by_the_original(&stand, kind).await?;
        stand.create(&kind.asking(&[])).await?;
        answer(&stand, kind).await?;
        stand.warned(kind.pod, "CustomResourceTaken", PATIENCE).await?;
        let pod = stand.condition(kind.pod, "Ready", "True", PATIENCE).await?;
        let claim = looked_at(&stand, kind.pod, 0).await?;
        stand.annotate(kind.pod, json!({"example.com/news": "1"})).await?;
        looked_at(&stand, kind.pod, claim).await?;
        is_still_answered(&stand, kind).await?;
        assert_eq!((lead_to(&stand, ip(&pod)).await?, eips_of_ours(&stand).await?.len()), (0, 0));

        // The lease ends without an event, and leaves the original's custom resource.
        stand
            .annotate(
                kind.pod,
                kind.asks.iter().map(|(key, _)| ((*key).to_owned(), json!(null))).collect(),
            )
            .await?;
        let forgotten = || async {
            let leases: i64 =
                sqlx::query_scalar("SELECT count(*) FROM lease").fetch_one(&stand.database).await?;
            Ok((leases == 0).then_some(()))
        };
        stand.eventually(forgotten, "the lease is forgotten", PATIENCE).await?;
        is_still_answered(&stand, kind).await?;
        ensure!(
            kind.shown(&stand, ip(&pod)).await? == 0,
            "the custom resource is still there, and shows nothing of ours"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_gate_that_the_original_answers_is_not_answered_for_it() -> Result<()> {
    let stand = Stand::start().await?;
    let gated = |name| {
        let mut pod = annotated(name, &[]);
        let gates = vec![PodReadinessGate { condition_type: EIP.gate.to_owned() }];
        pod.spec.iter_mut().for_each(|spec| spec.readiness_gates = Some(gates.clone()));
        pod
    };
    made_by_the_original(&stand, EIP).await?;
    stand.create(&gated(EIP.pod)).await?;
    answer(&stand, EIP).await?;
    // Observed later and answered, which shows that the first pod was observed, too.
    stand.create(&gated("unowned")).await?;
    stand.condition("unowned", EIP.gate, "True", PATIENCE).await?;
    is_still_answered(&stand, EIP).await
}
