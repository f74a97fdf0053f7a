//! Parts that both servers share: configuration, logs, signals, admin endpoints, TLS with reload,
//! and the supervision of tasks.
//!
//! ```text
//! signals ─▶ CancellationToken ─▶ every task drains ─▶ Supervisor::run returns
//! a task that dies ─▶ the same token, and its error ends the process
//! ```

pub mod admin;
pub mod certificates;
pub mod config;
pub mod logs;
pub mod signals;
pub mod supervise;
pub mod tls;

pub use admin::{Check, Readiness};
pub use certificates::Certificates;
pub use supervise::Supervisor;
