// Package podgc is Kubernetes' pod garbage collector, which `build` writes here from the module's own file with one import
// changed: the kubelet's package eviction would bring 150 packages (cgroups, containerd, cAdvisor) for one comparison.
package podgc
