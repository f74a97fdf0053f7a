//! Rules around the plan: which reads it needs, and what an answer, a conflict or a wait means for
//! the lease and its pod.
//!
//! ```text
//! lease ─▶ reads ─▶ plan ─▶ (worker) ─┬▶ response, conflict, reservation ─▶ records and waits
//!                                     ├▶ publishing ─▶ writes to the cluster, in order
//!                                     └▶ report, retry ─▶ condition or event, next look
//! lists of the cloud ─▶ drift ─▶ leases to wake
//! ```
//!
//! Pure, as the plan is: the worker carries out what these functions return, and the model that
//! proves the protocol calls the same functions.

pub mod conflict;
pub mod drift;
pub mod pauses;
pub mod pins;
pub mod priority;
pub mod publishing;
pub mod reads;
pub mod refusals;
pub mod report;
pub mod reservation;
pub mod response;
pub mod succession;
pub mod timing;
