//! The client against the simulator, over real sockets.

#[cfg(test)]
mod batching;
#[cfg(test)]
mod codes;
#[cfg(test)]
mod dnat;
#[cfg(test)]
mod eip;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod gateway;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod network;
#[cfg(test)]
mod refusals;
