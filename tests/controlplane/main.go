// Command controlplane is the testbed's Kubernetes and PostgreSQL in one binary.
//
// Called as etcd, kube-apiserver, kube-controller-manager, kube-scheduler or kwok it is that program, built from
// its own Go module. Called as `controlplane serve` it starts all of them and PostgreSQL, prints their addresses, and ends
// them on a signal or when its parent is gone.
//
// Build tags leave out what is on the machine: `assets` etcd and kube-apiserver, `postgres` everything but PostgreSQL.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// usage is printed when the command is unknown.
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

// exitCode prints an error, if there is one, and returns the program's exit code.
func exitCode(name string, err error) int {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 1
	}
	return 0
}
