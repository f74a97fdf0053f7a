//! Pins: account and region of the store's resources, and the VPC of a cluster's pods.

use crate::cluster::Cluster;
use crate::error::Error;
use crate::store::Store;
use waygate_core::ids::{AccountId, RegionId, VpcId};
use waygate_core::rules::pins::Place;

impl Store {
    /// Pins what is not pinned yet, once the account is known, and returns what is pinned.
    pub async fn pin_place(&self, cluster: Cluster, found: &Place) -> Result<Place, Error> {
        let pinned = self.read_pinned_place(cluster).await?;
        let (Some(account), Some(region), Some(vpc)) = (&found.account, &found.region, &found.vpc)
        else {
            return Ok(pinned);
        };
        if pinned.account.is_none() {
            sqlx::query!(
                "UPDATE store SET account_id = $1, region = $2 WHERE account_id IS NULL",
                account.as_str(),
                region.as_str(),
            )
            .execute(&self.pool)
            .await?;
        }
        if pinned.vpc.is_none() {
            sqlx::query!(
                "UPDATE cluster SET vpc_id = $2 WHERE cluster_id = $1 AND vpc_id IS NULL",
                cluster.id,
                vpc.as_str(),
            )
            .execute(&self.pool)
            .await?;
        }
        self.read_pinned_place(cluster).await
    }

    async fn read_pinned_place(&self, cluster: Cluster) -> Result<Place, Error> {
        let row = sqlx::query!(
            "SELECT s.account_id, s.region, c.vpc_id FROM cluster c, store s WHERE c.cluster_id = $1",
            cluster.id,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(Place {
            account: row.account_id.map(AccountId::new),
            region: row.region.map(RegionId::new),
            vpc: row.vpc_id.map(VpcId::new),
        })
    }
}
