// Package eviction has the part of the kubelet's package of this name that the pod garbage collector uses.
package eviction

import v1 "k8s.io/api/core/v1"

// Reason is the reason of a pod that the kubelet evicted.
const Reason = "Evicted"

// PodIsEvicted reports whether the kubelet evicted a pod.
func PodIsEvicted(status v1.PodStatus) bool {
	return status.Phase == v1.PodFailed && status.Reason == Reason
}
