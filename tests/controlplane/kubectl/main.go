// Command kubectl is Kubernetes' own, for machines that have none. A binary of its own, so that the demo, which does not
// call it, need not wait for its build.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
)

func main() {
	os.Exit(cli.Run(kubectl.NewDefaultKubectlCommand()))
}
