// Command kubectl is Kubernetes' own, for machines that have none. It is no part of the control plane's binary, so that who
// only watches the demo does not wait for it.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
)

func main() {
	os.Exit(cli.Run(kubectl.NewDefaultKubectlCommand()))
}
