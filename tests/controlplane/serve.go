package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// readyPatience is how long a program may take to come up on a busy machine; two seconds are usual.
const readyPatience = 2 * time.Minute

// foreign are the programs that are taken from the ASSETS folder if it has them. The others are called with flags that
// only our build has.
var foreign = []string{"etcd", "kube-apiserver"}

// announcement is the line on standard output that is printed when all programs are ready.
type announcement struct {
	Kubeconfig  string `json:"kubeconfig"`
	DatabaseURL string `json:"databaseURL"`
	BinDir      string `json:"binDir"`
}

// serve starts all programs and prints the announcement. It returns nil when asked to end, or an error when a program failed.
func serve(args []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	dir := flags.String("dir", "", "where logs, data and kubeconfigs go; created if need be")
	kubeconfig := flags.String("kubeconfig", "", "use this cluster instead of starting one")
	assets := flags.String("assets", "", "use the programs of this folder where it has them")
	flags.Parse(args)
	if *dir == "" {
		return fmt.Errorf("serve needs --dir")
	}
	absolute, err := filepath.Abs(*dir)
	if err != nil {
		return err
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	go func() {
		// Our parent holds the other end of standard input, which closes however the parent ends.
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()

	processes, err := newProcesses(absolute)
	if err != nil {
		return err
	}
	ready, cleanUp, err := startAll(ctx, absolute, *kubeconfig, *assets, processes)
	defer func() {
		processes.stopAll()
		cleanUp()
	}()
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case <-processes.died:
		return processes.failure
	}
}

// startAll starts PostgreSQL and the cluster side by side. The returned function removes what is not in DIR, and is never nil.
func startAll(ctx context.Context, dir, kubeconfig, assets string, processes *processes) (announcement, func(), error) {
	ready := announcement{BinDir: filepath.Join(dir, "bin"), Kubeconfig: kubeconfig}
	if err := linkPrograms(ready.BinDir, assets); err != nil {
		return ready, func() {}, err
	}

	postgres := make(chan error, 1)
	database := &database{processes: processes}
	go func() { postgres <- database.start(ctx, dir) }()

	var err error
	if kubeconfig == "" {
		ready.Kubeconfig, err = startCluster(ctx, dir, ready.BinDir, processes)
	}
	if failed := <-postgres; err == nil {
		err = failed
	}
	ready.DatabaseURL = database.url
	return ready, database.remove, err
}

// linkPrograms makes a directory of programs: those of ASSETS where it has them, else this binary.
func linkPrograms(binDir, assets string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(binDir, 0o755); err != nil {
		return err
	}
	targets := make(map[string]string)
	for name := range programs {
		targets[name] = self
	}
	for _, name := range foreign {
		if own := filepath.Join(assets, name); assets != "" && isExecutable(own) {
			targets[name] = own
		}
	}
	for name, target := range targets {
		link := filepath.Join(binDir, name)
		_ = os.Remove(link)
		if err := os.Symlink(target, link); err != nil {
			return err
		}
	}
	return nil
}

func isExecutable(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// freePorts finds ports that are free now. All are held until the last is found, so that they differ.
func freePorts(count int) ([]int, error) {
	ports := make([]int, count)
	for i := range ports {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		ports[i] = listener.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}
