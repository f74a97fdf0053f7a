//! Sources of EIPs: adopted, preempted, reusable prepaid, reclaimed; each used by one lease at a
//! time.

use crate::database::{Bench, CLAIM, bought, in_database, target};
use anyhow::Result;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use uuid::Uuid;
use waygate_core::change::{Answer, Change};
use waygate_core::ids::AllocationId;
use waygate_core::lease::Phase;
use waygate_core::lease::{CurrentHolder, EipSources, HolderState};
use waygate_core::request::{
    EipRequest, EipSource, EipSpec, InstanceChargeType, InternetChargeType, ReleaseStrategy,
    Request,
};
use waygate_core::rules::response::LeaseEffect;
use waygate_store::{Claim, OwnsCustomResource, PodObservation, SettledBy, Settlement};

const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

fn eip(number: u8) -> (AllocationId, Ipv4Addr) {
    (AllocationId::new(format!("eip-{number}")), Ipv4Addr::new(203, 0, 113, number))
}

fn given() -> Request {
    Request::Eip(EipRequest {
        source: EipSource::Given(eip(1).0),
        release: ReleaseStrategy::Follow,
    })
}

fn monthly() -> Request {
    let (instance_charge_type, internet_charge_type) =
        (InstanceChargeType::PrePaid, InternetChargeType::PayByBandwidth);
    let spec = EipSpec { internet_charge_type, instance_charge_type, ..EipSpec::default() };
    Request::Eip(EipRequest { source: EipSource::Allocate(spec), release: ReleaseStrategy::Follow })
}

/// A claimed lease of pod `name`, created at `second`.
async fn of_pod(bench: &Bench, name: &str, second: i64, request: &Request) -> Result<Claim> {
    let pod_created_at = Some(jiff::Timestamp::from_second(1_800_000_000 + second)?);
    let controller = Some("StatefulSet/db");
    let observation = PodObservation {
        namespace: "ns",
        pod_name: name,
        pod_uid: Uuid::new_v4(),
        controller,
        pod_created_at,
        request,
    };
    bench.store.observe_pod(bench.cluster, &observation).await?;
    bench.claim_one().await
}

async fn sources(bench: &Bench, claim: &Claim) -> Result<EipSources> {
    Ok(bench.store.eip_sources(&bench.load(claim).await?.lease).await?)
}

async fn holds(bench: &Bench, claim: &Claim) -> Result<Option<(AllocationId, bool)>> {
    Ok(bench.load(claim).await?.lease.eip.map(|eip| (eip.allocation_id, eip.managed)))
}

#[tokio::test]
async fn a_given_eip_has_one_lease_and_the_others_know_who_and_how_old() -> Result<()> {
    in_database(async |bench: &Bench| {
        let middle = of_pod(bench, "middle", 5, &given()).await?;
        assert_eq!(sources(bench, &middle).await?.current_holder, None);
        assert!(bench.store.under_claim(&middle).adopt_eip(&[eip(1)]).await?);
        assert_eq!(holds(bench, &middle).await?, Some((eip(1).0, false)));
        let (older, younger) = (
            of_pod(bench, "older", 4, &given()).await?,
            of_pod(bench, "younger", 6, &given()).await?,
        );
        for (claim, holder_state) in
            [(&older, HolderState::Younger), (&younger, HolderState::Older)]
        {
            assert!(!bench.store.under_claim(claim).adopt_eip(&[eip(1)]).await?);
            assert_eq!(
                sources(bench, claim).await?.current_holder,
                Some(CurrentHolder { pod: "ns/middle".to_owned(), state: holder_state })
            );
        }
        bench.store.under_claim(&middle).set_phase(Phase::Releasing).await?;
        assert_eq!(
            sources(bench, &older).await?.current_holder.map(|holder| holder.state),
            Some(HolderState::Releasing)
        );
        bench.store.under_claim(&middle).clear_eip().await?;
        assert!(bench.store.under_claim(&older).adopt_eip(&[eip(1)]).await?);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cache_lets_sixteen_pods_take_one_eip_at_once() -> Result<()> {
    in_database(async |bench: &Bench| {
        assert_eq!(taken_by_sixteen(bench, vec![eip(1)]).await?.len(), 1);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_pods_of_a_pool_get_an_eip_each_while_there_are_any() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool: Vec<_> = (1..=10).map(eip).collect();
        let mut all: BTreeSet<_> =
            taken_by_sixteen(bench, pool.clone()).await?.into_iter().collect();
        // A lease that lost the race looks again, as the worker does.
        for claim in bench
            .store
            .claim_due_leases(bench.cluster, Uuid::new_v4(), 16, Duration::ZERO, CLAIM)
            .await?
        {
            if bench.store.under_claim(&claim).adopt_eip(&pool).await.unwrap_or(false) {
                all.extend(holds(bench, &claim).await?.map(|(id, _)| id));
            }
        }
        assert_eq!(all.len(), 10);
        Ok(())
    })
    .await
}

/// Sixteen leases adopt the first free EIP at once; returns what they got. Afterwards the leases
/// without one are due.
async fn taken_by_sixteen(
    bench: &Bench,
    candidates: Vec<(AllocationId, Ipv4Addr)>,
) -> Result<Vec<AllocationId>> {
    for _ in 0..16 {
        bench.observe(Uuid::new_v4(), &bought()).await?;
    }
    let start = Arc::new(Barrier::new(16));
    let mut tasks = JoinSet::new();
    for claim in bench
        .store
        .claim_due_leases(bench.cluster, Uuid::new_v4(), 16, Duration::ZERO, CLAIM)
        .await?
    {
        let (store, start, candidates) =
            (bench.store.clone(), Arc::clone(&start), candidates.clone());
        tasks.spawn(async move {
            start.wait().await;
            (claim, store.under_claim(&claim).adopt_eip(&candidates).await)
        });
    }
    let mut got = Vec::new();
    for (claim, result) in tasks.join_all().await {
        match result {
            Ok(true) => got.extend(holds(bench, &claim).await?.map(|(id, _)| id)),
            Ok(false) => {
                bench
                    .store
                    .under_claim(&claim)
                    .finish_claim(&crate::database::finish(0, Duration::ZERO))
                    .await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(got)
}

#[tokio::test]
async fn a_lease_that_has_an_eip_takes_no_second_one() -> Result<()> {
    in_database(async |bench: &Bench| {
        let claim = bench.claimed(&bought()).await?;
        assert!(bench.store.under_claim(&claim).adopt_eip(&[eip(1)]).await?);
        assert!(bench.store.under_claim(&claim).adopt_eip(&[eip(2)]).await.is_err());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_given_eip_passes_from_the_older_pod_to_the_younger_and_never_back() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (older, younger) = (
            of_pod(bench, "older", 1, &given()).await?,
            of_pod(bench, "younger", 2, &given()).await?,
        );
        bench.store.under_claim(&older).adopt_eip(&[eip(1)]).await?;
        bench.store.under_claim(&younger).preempt_eip(&eip(1).0).await?;
        assert_eq!(bench.load(&older).await?.lease.preempted_by.as_deref(), Some("ns/younger"));
        assert_eq!(
            sources(bench, &younger).await?.current_holder.map(|holder| holder.state),
            Some(HolderState::Releasing)
        );
        bench.store.under_claim(&older).clear_eip().await?;
        assert!(bench.store.under_claim(&younger).adopt_eip(&[eip(1)]).await?);
        bench.store.under_claim(&older).preempt_eip(&eip(1).0).await?;
        assert_eq!(bench.load(&younger).await?.lease.preempted_by, None);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_eip_that_its_pod_did_not_name_is_not_preempted() -> Result<()> {
    in_database(async |bench: &Bench| {
        let holder = of_pod(bench, "bought", 1, &bought()).await?;
        bench.store.under_claim(&holder).adopt_eip(&[eip(1)]).await?;
        let younger = of_pod(bench, "younger", 2, &given()).await?;
        assert_eq!(
            sources(bench, &younger).await?.current_holder.map(|holder| holder.state),
            Some(HolderState::Younger)
        );
        bench.store.under_claim(&younger).preempt_eip(&eip(1).0).await?;
        assert_eq!(bench.load(&holder).await?.lease.preempted_by, None);
        Ok(())
    })
    .await
}

/// A claimed lease with an EIP that was allocated for it.
async fn with_eip(bench: &Bench, name: &str, request: &Request) -> Result<Claim> {
    let claim = of_pod(bench, name, 1, request).await?;
    let change = Change::AllocateEipAddress { spec: EipSpec::default(), tags: [].into() };
    let operation = bench.send(&claim, &format!("lease/{name}"), &change).await?;
    let answer = Answer {
        allocation_id: Some(AllocationId::new(format!("eip-of-{name}"))),
        ip_address: Some(PUBLIC),
        ..Answer::default()
    };
    bench
        .store
        .settle_operation(
            SettledBy::ClaimHolder(&claim),
            &operation,
            Settlement::from_success(&answer),
        )
        .await?;
    Ok(claim)
}

#[tokio::test]
async fn a_prepaid_eip_left_unused_goes_to_the_next_pod_that_asks_for_its_like() -> Result<()> {
    in_database(async |bench: &Bench| {
        let former = with_eip(bench, "a", &monthly()).await?;
        let next = of_pod(bench, "b", 2, &monthly()).await?;
        assert_eq!(sources(bench, &next).await?.reusable_prepaid, None, "its pod is there");
        bench.store.under_claim(&former).set_phase(Phase::Releasing).await?;
        assert_eq!(sources(bench, &next).await?.reusable_prepaid, Some(former.lease_id));
        let other = of_pod(bench, "c", 3, &bought()).await?;
        assert_eq!(sources(bench, &other).await?.reusable_prepaid, None, "the requests differ");
        assert!(bench.store.under_claim(&next).adopt_prepaid_eip(former.lease_id).await?);
        assert_eq!(holds(bench, &next).await?, Some((AllocationId::new("eip-of-a"), true)));
        assert!(bench.load(&former).await.is_err(), "the claim of its former lease has ended");
        let again = bench.claim_one().await?;
        assert_eq!((again.lease_id, holds(bench, &again).await?), (former.lease_id, None));
        bench.store.under_claim(&again).delete_empty_lease().await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_prepaid_eip_is_left_alone_while_its_lease_is_not_done_with_it() -> Result<()> {
    in_database(async |bench: &Bench| {
        let former = with_eip(bench, "a", &monthly()).await?;
        let next = of_pod(bench, "b", 2, &monthly()).await?;
        let adopts =
            async || bench.store.under_claim(&next).adopt_prepaid_eip(former.lease_id).await;
        assert!(!adopts().await?, "its pod is there");
        bench.store.under_claim(&former).set_target(&target(1)).await?;
        bench.store.under_claim(&former).set_phase(Phase::Releasing).await?;
        assert!(!adopts().await?, "the EIP may still be bound");
        bench.store.under_claim(&former).clear_target().await?;
        bench.store.under_claim(&former).set_owns_custom_resource(OwnsCustomResource::Yes).await?;
        assert!(!adopts().await?, "the custom resource still shows the EIP");
        bench.store.under_claim(&former).set_owns_custom_resource(OwnsCustomResource::No).await?;
        let release = Change::ReleaseEipAddress { allocation_id: AllocationId::new("eip-of-a") };
        let operation = bench.send(&former, "eip-of-a", &release).await?;
        assert!(!adopts().await?, "the EIP is being released");
        bench
            .store
            .settle_operation(
                SettledBy::ClaimHolder(&former),
                &operation,
                Settlement::from_refusal("no"),
            )
            .await?;
        assert!(adopts().await?);
        assert!(
            bench.queue(&former, "eip-of-a", &release).await.is_err(),
            "its former lease no longer releases it"
        );
        Ok(())
    })
    .await
}

/// A lease of pod `db-0` whose retention of one second has ended.
async fn expired(bench: &Bench) -> Result<()> {
    let release = ReleaseStrategy::Ttl { seconds: 1, text: "1s".to_owned() };
    let request =
        Request::Eip(EipRequest { source: EipSource::Allocate(EipSpec::default()), release });
    let claim = with_eip(bench, "db-0", &request).await?;
    bench.store.under_claim(&claim).retain_lease(Some(1)).await?;
    sqlx::query("UPDATE lease SET retained_until = now()").execute(&bench.pool).await?;
    bench.store.under_claim(&claim).set_phase(Phase::Releasing).await?;
    gone(bench, &claim).await?;
    Ok(bench.store.under_claim(&claim).delete_empty_lease().await?)
}

async fn gone(bench: &Bench, claim: &Claim) -> Result<()> {
    let release = Change::ReleaseEipAddress { allocation_id: AllocationId::new("eip-of-db-0") };
    let operation = bench.send(claim, "eip-of-db-0", &release).await?;
    Ok(bench
        .store
        .settle_operation(
            SettledBy::ClaimHolder(claim),
            &operation,
            Settlement::from_absence("NotFound", LeaseEffect::EipGone),
        )
        .await?)
}

fn never() -> Request {
    Request::Eip(EipRequest {
        source: EipSource::Allocate(EipSpec::default()),
        release: ReleaseStrategy::Never,
    })
}

#[tokio::test]
async fn a_former_address_is_known_to_the_pod_of_its_name_for_seven_days() -> Result<()> {
    in_database(async |bench: &Bench| {
        expired(bench).await?;
        let other = of_pod(bench, "db-1", 1, &never()).await?;
        assert_eq!(sources(bench, &other).await?.former_address, None);
        let back = of_pod(bench, "db-0", 2, &never()).await?;
        assert_eq!(sources(bench, &back).await?.former_address, Some(PUBLIC));
        sqlx::query("UPDATE former_address SET released_at = now() - interval '7 days'")
            .execute(&bench.pool)
            .await?;
        assert_eq!(sources(bench, &back).await?.former_address, None);
        assert_eq!(bench.store.prune_former_addresses().await?, 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_address_bought_back_or_not_to_be_had_is_asked_for_once() -> Result<()> {
    in_database(async |bench: &Bench| {
        expired(bench).await?;
        let back = with_eip(bench, "db-0", &never()).await?;
        bench.store.under_claim(&back).set_phase(Phase::Releasing).await?;
        gone(bench, &back).await?;
        assert_eq!(
            sources(bench, &back).await?.former_address,
            None,
            "the retention had not ended by time"
        );

        bench.store.under_claim(&back).delete_empty_lease().await?;
        expired(bench).await?;
        let again = of_pod(bench, "db-0", 3, &never()).await?;
        assert_eq!(sources(bench, &again).await?.former_address, Some(PUBLIC));
        bench.store.delete_former_address(again.lease_id).await?;
        assert_eq!(sources(bench, &again).await?.former_address, None);
        Ok(())
    })
    .await
}
