// Command controlplane is the testbed's Kubernetes and PostgreSQL in one binary.
//
// Called as etcd, kube-apiserver, kube-controller-manager, kube-scheduler or kwok it is that program, built from
// its own Go module. Called as `controlplane serve` it starts all of them and PostgreSQL, says where they are, and ends them
// when it is told to or when whoever started it is gone.
//
// Build tags leave out what is on the machine: `assets` etcd and kube-apiserver, `postgres` everything but PostgreSQL.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// usage is what a person sees who calls the binary without knowing it.
const usage = `controlplane: the testbed's Kubernetes and PostgreSQL

  controlplane serve --dir DIR [--kubeconfig FILE] [--assets DIR]
      Start everything, print one line of JSON when it is ready, stop at the end of standard input.
  controlplane fetch-postgres --into DIR
      Fetch PostgreSQL's binaries for machines that have none.

Called by the names etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok it is those programs.`

// programs are the cluster's programs that this binary is, by the names it is called by; each returns its exit code.
var programs = make(map[string]func() int)

func main() {
	name := filepath.Base(os.Args[0])
	if run, ok := programs[name]; ok {
		os.Exit(run())
	}
	os.Exit(exitCode("controlplane", runOwn(os.Args[1:])))
}

// runOwn runs the commands that are the testbed's own.
func runOwn(args []string) error {
	switch {
	case len(args) > 0 && args[0] == "serve":
		return serve(args[1:])
	case len(args) > 0 && args[0] == "fetch-postgres":
		return fetchPostgres(args[1:])
	default:
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
		return nil
	}
}

// exitCode says what went wrong, if anything did.
func exitCode(name string, err error) int {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 1
	}
	return 0
}
