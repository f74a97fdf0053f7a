// Package podgc is Kubernetes' pod garbage collector: a copy of its file with one import changed, which `make check` holds
// it to. The kubelet's own package eviction would bring 150 packages (cgroups, containerd, cAdvisor) for one comparison.
package podgc
