//! The cloud without its shell: time is an argument, so nothing here waits.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod account;
mod buying;
mod eips;
mod entries;
mod interfaces;
mod random;
mod stand;
