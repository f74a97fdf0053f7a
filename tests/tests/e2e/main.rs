//! End-to-end tests on a real control plane. A single binary, so that linking happens once.

mod admission;
mod condition_reasons;
mod console_changes;
mod crash;
mod dnat;
mod eip;
mod eip_sources;
mod faults;
mod gateway_namespaces;
mod gateway_queue;
mod install;
mod kruise;
mod links;
mod listener;
mod many_pods;
mod original_controller;
mod outage;
mod pod_lifecycle;
mod refusals;
mod retention;
mod set_aside;
mod settings;
mod switched_off;
mod testbed_nodes;
mod texts;
mod workloads;
