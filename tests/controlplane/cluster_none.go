//go:build postgres

package main

import (
	"context"
	"errors"
)

// startCluster has nothing to start: this binary was built for a cluster that is there.
func startCluster(context.Context, string, string, *processes) (string, error) {
	return "", errors.New("this binary has no Kubernetes in it; give it --kubeconfig")
}
