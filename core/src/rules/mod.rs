//! The rules around the plan: what is read for it, and what an answer, a conflict or a wait means
//! for the lease and its pod.
//!
//! ```text
//! lease ─▶ reads ─▶ Situation ─▶ plan::next ─▶ Step ─▶ (worker) ─┬▶ response, conflict, reservation ─▶ what to record, what to wait for
//!                                                               ├▶ publishing ─▶ writes to the cluster, in order
//!                                                               └▶ report, retry ─▶ what the pod is told, when to look again
//! ```
//!
//! Pure, as the plan is: the worker carries out what these functions return, and the model that
//! proves the protocol calls the same ones.

pub mod conflict;
pub mod publishing;
pub mod reads;
pub mod report;
pub mod reservation;
pub mod response;
pub mod succession;
pub mod timing;
