//! By constraint, everything that a lease can hold has one holder.

use crate::database::{Bench, CLAIM, bought, dnat, in_database, ports, release, target};
use anyhow::Result;
use std::net::Ipv4Addr;
use uuid::Uuid;
use waygate_core::ids::AllocationId;
use waygate_core::lease::Constraint;
use waygate_store::{Error, OwnsCustomResource, PodObservation, SettledBy, Settlement};

const PUBLIC: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// The constraint that the call violated.
fn conflict<T>(result: &Result<T, Error>) -> Option<Constraint> {
    result.as_ref().err().and_then(Error::violated_constraint)
}

#[tokio::test]
async fn a_reused_pod_ip_gets_no_second_eip_before_the_first_is_off() -> Result<()> {
    in_database(async |bench: &Bench| {
        let (first, second) = (bench.claimed(&bought()).await?, bench.claimed(&bought()).await?);
        bench.store.under_claim(&first).set_target(&target(1)).await?;
        assert_eq!(
            conflict(&bench.store.under_claim(&second).set_target(&target(1)).await),
            Some(Constraint::BoundIp)
        );
        assert_eq!(bench.load(&second).await?.lease.generation, 0, "a refused target is not set");
        let lease = bench.load(&first).await?.lease;
        assert_eq!((lease.target, lease.generation), (Some(target(1)), 1));
        assert!(
            bench.store.under_claim(&first).set_target(&target(2)).await.is_err(),
            "a target is cleared before another is set"
        );

        bench.store.under_claim(&first).clear_target().await?;
        bench.store.under_claim(&second).set_target(&target(1)).await?;
        bench.store.under_claim(&first).set_target(&target(2)).await?;
        assert_eq!(bench.load(&first).await?.lease.generation, 2);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_port_of_a_private_ip_is_forwarded_once_a_gateway() -> Result<()> {
    in_database(async |bench: &Bench| {
        let pool = [bench.offer("eip-1", 1000, 1100).await?];
        let requests = [dnat(&[80], &[]), dnat(&[443, 80], &[]), dnat(&[], &[80])];
        let mut claims = Vec::new();
        for asked in requests {
            let claim = bench.claimed(&waygate_core::request::Request::Dnat(asked.clone())).await?;
            bench.store.under_claim(&claim).reserve_ports(&asked, &[pool.to_vec()]).await?;
            claims.push(claim);
        }
        bench.store.under_claim(&claims[0]).set_target(&target(1)).await?;
        assert_eq!(
            conflict(&bench.store.under_claim(&claims[1]).set_target(&target(1)).await),
            Some(Constraint::ForwardedPort)
        );
        assert_eq!(
            bench.load(&claims[1]).await?.lease.target,
            None,
            "neither its target nor any port row was written"
        );
        bench.store.under_claim(&claims[2]).set_target(&target(1)).await?;
        bench.store.under_claim(&claims[0]).clear_target().await?;
        bench.store.under_claim(&claims[1]).set_target(&target(1)).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_custom_resource_has_one_writer() -> Result<()> {
    in_database(async |bench: &Bench| {
        let request = bought();
        let mut claims = Vec::new();
        for _ in 0..2 {
            let pod_uid = Uuid::new_v4();
            bench
                .store
                .observe_pod(
                    bench.cluster,
                    &PodObservation {
                        namespace: "ns",
                        pod_name: "same-0",
                        pod_uid,
                        controller: None,
                        pod_created_at: None,
                        request: &request,
                    },
                )
                .await?;
            claims.push(bench.claim_one().await?);
        }
        bench
            .store
            .under_claim(&claims[0])
            .set_owns_custom_resource(OwnsCustomResource::Yes)
            .await?;
        assert_eq!(
            conflict(
                &bench
                    .store
                    .under_claim(&claims[1])
                    .set_owns_custom_resource(OwnsCustomResource::Yes)
                    .await
            ),
            Some(Constraint::CustomResource)
        );
        bench
            .store
            .under_claim(&claims[0])
            .set_owns_custom_resource(OwnsCustomResource::No)
            .await?;
        bench
            .store
            .under_claim(&claims[1])
            .set_owns_custom_resource(OwnsCustomResource::Yes)
            .await?;
        assert!(bench.load(&claims[1]).await?.lease.owns_custom_resource);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn no_eip_or_port_is_leaked_by_deleting_its_lease() -> Result<()> {
    in_database(async |bench: &Bench| {
        let store = &bench.store;
        let pool = [bench.offer("eip-1", 1000, 1100).await?];
        let claim = bench.claimed(&ports(&[80], &[])).await?;
        let eip = AllocationId::new("eip-2");
        let not_deleted = async |what: &str| -> Result<()> {
            assert!(
                matches!(
                    store.under_claim(&claim).delete_empty_lease().await,
                    Err(Error::ClaimLost)
                ),
                "the lease was deleted with {what}"
            );
            bench.load(&claim).await?;
            Ok(())
        };

        store.under_claim(&claim).adopt_eip(&[(eip.clone(), PUBLIC)]).await?;
        not_deleted("an EIP").await?;
        store.under_claim(&claim).clear_eip().await?;

        store.under_claim(&claim).set_target(&target(1)).await?;
        not_deleted("a target").await?;
        store.under_claim(&claim).clear_target().await?;

        store.under_claim(&claim).reserve_ports(&dnat(&[80], &[]), &[pool.to_vec()]).await?;
        not_deleted("a port").await?;
        let key = crate::database::keys(&bench.load(&claim).await?).remove(0);
        store.under_claim(&claim).start_cooldown(&key, CLAIM).await?;

        let operation = bench.send(&claim, "eip-2", &release("eip-2")).await?;
        not_deleted("an unresolved operation").await?;
        store
            .settle_operation(
                SettledBy::ClaimHolder(&claim),
                &operation,
                Settlement::without_effect(),
            )
            .await?;

        store.under_claim(&claim).delete_empty_lease().await?;
        assert!(matches!(
            store.under_claim(&claim).delete_empty_lease().await,
            Err(Error::ClaimLost)
        ));
        assert_eq!(store.filter_existing(&[claim.lease_id]).await?, []);
        Ok(())
    })
    .await
}
