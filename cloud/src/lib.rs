//! Client of the cloud's VPC, ECS and STS APIs. No other crate speaks HTTP to the cloud.
//!
//! ```text
//! entry ──▶ write slot ─▶ permit ─▶ sign ─▶ one request ─▶ answer, or a classified error
//! EIP ────▶ (booked by the caller) ─▶ sign, still in time? ─▶ one request ─▶ the same
//! read ───▶ batch ──────▶ permit ─▶ sign ─▶ pages ───────▶ facts, and when the read began
//! ```
//! Invariants: the client sends a change once and never resends it; a returned read began after the
//! caller asked for it; an answer that cannot be read is an error, never an empty list; every call
//! has a deadline.

mod change;
mod client;
mod credentials;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod gateway;
mod http;
pub mod network;
mod rate_limit;
mod read;
mod send_by;
mod settings;
mod silence;
mod transport;
mod wire;

pub use client::Cloud;
pub use credentials::{AccessKey, Credentials, Environment};
pub use error::codes::EIP_QUOTA_EXCEEDED;
pub use error::{Class, Error, NotSentCause, Refusal, Scope};
pub use gateway::slot::WriteSlot;
pub use http::endpoints::Network;
pub use rate_limit::{LocalPermits, NoPermit, PermitFuture, Permits, Reservation};
pub use send_by::SendBy;
pub use settings::Settings;
pub use transport::Read;

#[cfg(test)]
mod tests {
    use super::{Cloud, SendBy};
    use std::time::Duration;
    use waygate_core::change::Change;
    use waygate_core::ids::NatGatewayId;

    fn is_send<T: Send>(value: T) -> T {
        value
    }

    /// Never run: compiling is the test.
    #[expect(dead_code)]
    fn calls_can_be_spawned(cloud: &Cloud, change: &Change, gateway: &NatGatewayId) {
        drop(is_send(cloud.send_change(
            change,
            None,
            SendBy::within(Duration::ZERO),
            Duration::ZERO,
        )));
        drop(is_send(cloud.acquire_write_slot(gateway)));
        drop(is_send(cloud.forward_entries(gateway)));
        drop(is_send(cloud.eni_by_private_ip(std::net::Ipv4Addr::LOCALHOST)));
    }
}
