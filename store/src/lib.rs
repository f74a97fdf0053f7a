//! Leases and operations in Postgres: the only place with SQL.
//!
//! ```text
//! webhook ─ announce ─▶ lease ◀─ observe, wake ─ watch
//!                         │
//!          claim ─▶ load ─┴▶ queue ─▶ dequeue ─▶ (the cloud) ─▶ settle ─▶ … ─▶ finish
//! ```
//!
//! Constraints, not checks in code, guarantee that a port and an EIP have one holder, a pod has one
//! live lease of a kind, one private address is bound to one EIP, and one change of a cloud
//! resource is unresolved at a time. The cloud's answers are facts: [`Store`] records them without
//! a claim. Decisions are written by [`Claimed`] under a live claim (owner, epoch), or not at all.

mod batches;
mod claimed;
mod cluster;
mod columns;
mod error;
mod lease;
mod migrate;
mod operation;
mod pins;
mod port;
mod rates;
mod schema;
mod store;
mod worker_lock;

pub use claimed::{Claim, Claimed};
pub use cluster::Cluster;
pub use error::{Error, Transience};
pub use lease::announce::{PodAnnouncement, PodObservation};
pub use lease::claims::{ClaimedJob, Finish, RefusalHistory};
pub use lease::custom_resource::OwnsCustomResource;
pub use lease::drift::{ListStart, RecordPage};
pub use lease::load::Loaded;
pub use migrate::{LockHolder, MigrationError};
pub use operation::account_queue::{AccountBatch, AccountQueue};
pub use operation::queue::{DequeuedChange, QueueFilter};
pub use operation::settle::{SettledBy, Settlement};
pub use port::gateway_facts::ObservedEntries;
pub use port::pool::{GatewayEip, OfferedPorts};
pub use rates::CallPermit;
pub use store::Store;
pub use worker_lock::{GatewayLock, UnconfiguredQueues, Work, WorkerLock};
