//! Tests of the store on a real Postgres. One binary, so that it is linked once; each test has its
//! own database.

#[cfg(test)]
mod account_queue;
mod announce;
#[cfg(test)]
mod batches;
#[cfg(test)]
mod claim_checks;
#[cfg(test)]
mod claims;
#[cfg(test)]
mod clusters;
#[cfg(test)]
mod database;
#[cfg(test)]
mod drift;
#[cfg(test)]
mod eips;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod gateway_queue;
#[cfg(test)]
mod limits;
mod listener;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod ports;
#[cfg(test)]
mod rates;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod room;
#[cfg(test)]
mod schema;
mod sources;
#[cfg(test)]
mod texts;
