// Command controlplane is the testbed's Kubernetes and PostgreSQL in one binary.
//
// Called as etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl or kwok it is that program, built from
// its own Go module. Called as `controlplane serve` it starts all of them and PostgreSQL, says where they are, and ends them
// when it is told to or when whoever started it is gone.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// usage is what a person sees who calls the binary without knowing it.
const usage = `controlplane: the testbed's Kubernetes and PostgreSQL

  controlplane serve --dir DIR [--kubeconfig FILE]
      Start everything, print one line of JSON when it is ready, stop at the end of standard input.
  controlplane fetch-postgres --into DIR
      Fetch PostgreSQL's binaries for machines that have none.

Called by the names etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl and kwok it is those programs.`

func main() {
	switch filepath.Base(os.Args[0]) {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "kube-controller-manager":
		os.Exit(cli.Run(controllermanager.NewControllerManagerCommand()))
	case "kube-scheduler":
		os.Exit(cli.Run(scheduler.NewSchedulerCommand()))
	case "kubectl":
		os.Exit(cli.Run(kubectl.NewDefaultKubectlCommand()))
	case "kwok":
		os.Exit(runKwok())
	default:
		os.Exit(runOwn(os.Args[1:]))
	}
}

// runOwn runs the commands that are the testbed's own.
func runOwn(args []string) int {
	var err error
	switch {
	case len(args) > 0 && args[0] == "serve":
		err = serve(args[1:])
	case len(args) > 0 && args[0] == "fetch-postgres":
		err = fetchPostgres(args[1:])
	default:
		fmt.Fprintln(os.Stderr, usage)
		return 2
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "controlplane:", err)
		return 1
	}
	return 0
}
