// Package podgc is Kubernetes' pod garbage collector: `build` puts the module's own file here, in the copy that it compiles,
// with one import changed. The kubelet's package eviction would bring 150 packages (cgroups, containerd, cAdvisor) for one
// comparison.
package podgc
