//! The whole simulator over real sockets: signatures, faults, the console, the metadata service.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod client;
mod console;
mod faults;
mod process;
mod signed;
mod storm;
