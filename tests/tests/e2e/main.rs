//! End-to-end tests on a real control plane. A single binary, so that linking happens once.

mod admission;
mod beside;
mod console;
mod crash;
mod crowd;
mod dnat;
mod eip;
mod faults;
mod install;
mod kept;
mod kruise;
mod kubelet;
mod lanes;
mod lives;
mod outage;
mod pools;
mod reasons;
mod settings;
mod sources;
mod switched_off;
mod workloads;
