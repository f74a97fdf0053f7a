//! End-to-end tests on a real control plane. One binary, so that it is linked once.

mod kubelet;
