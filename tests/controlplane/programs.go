//go:build !postgres

package main

import (
	"os"

	"k8s.io/component-base/cli"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// The programs that no collection of binaries for tests has.
func init() {
	programs["kube-controller-manager"] = func() int {
		return exitCode("kube-controller-manager", runManager(os.Args[1:]))
	}
	programs["kube-scheduler"] = func() int { return cli.Run(scheduler.NewSchedulerCommand()) }
	programs["kwok"] = func() int { return exitCode("kwok", runKwok(os.Args[1:])) }
}
