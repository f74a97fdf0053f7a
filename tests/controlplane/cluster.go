//go:build !postgres

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// cluster is a control plane of one instance of each program, all on the loopback interface, all data in DIR.
type cluster struct {
	dir       string
	binDir    string
	processes *processes
	pki       *pki
	server    string // https://127.0.0.1:PORT
}

// startCluster starts etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok, waits until pods can be
// created, and returns the administrator's kubeconfig.
func startCluster(ctx context.Context, dir, binDir string, processes *processes) (string, error) {
	pki, err := newPKI(filepath.Join(dir, "pki"))
	if err != nil {
		return "", err
	}
	ports, err := freePorts(3)
	if err != nil {
		return "", err
	}
	c := &cluster{dir: dir, binDir: binDir, processes: processes, pki: pki, server: fmt.Sprintf("https://127.0.0.1:%d", ports[2])}
	admin, err := c.kubeconfig("admin", "system:masters")
	if err != nil {
		return "", err
	}
	etcd := fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	if err := c.startEtcd(etcd, fmt.Sprintf("http://127.0.0.1:%d", ports[1])); err != nil {
		return "", err
	}
	if err := c.startAPIServer(etcd, ports[2]); err != nil {
		return "", err
	}
	client, err := clientFor(admin)
	if err != nil {
		return "", err
	}
	if err := c.until(ctx, "kube-apiserver", apiServerReady(client)); err != nil {
		return "", err
	}
	if err := c.startControllers(); err != nil {
		return "", err
	}
	return admin, c.until(ctx, "kube-controller-manager", podsCanBeCreated(client))
}

// startEtcd starts the store. It never waits for the disk: a crash of the machine may lose everything.
func (c *cluster) startEtcd(clients, peers string) error {
	return c.start("etcd", syscall.SIGTERM,
		"--name=testbed", "--data-dir="+filepath.Join(c.dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls="+clients, "--advertise-client-urls="+clients,
		"--listen-peer-urls="+peers, "--initial-advertise-peer-urls="+peers, "--initial-cluster=testbed="+peers,
	)
}

// startAPIServer starts the API with what a careful cluster has on: RBAC, and the owner-reference check that asks a
// controller for rights it would not miss elsewhere.
func (c *cluster) startAPIServer(etcd string, port int) error {
	serving, err := c.pki.server()
	if err != nil {
		return err
	}
	tokens, err := c.pki.serviceAccountKey()
	if err != nil {
		return err
	}
	return c.start("kube-apiserver", syscall.SIGKILL, // in good order it waits for watches, and holds nothing worth it
		"--etcd-servers="+etcd, "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port),
		"--tls-cert-file="+serving.cert, "--tls-private-key-file="+serving.key, "--client-ca-file="+c.pki.caFile,
		"--service-account-key-file="+tokens, "--service-account-signing-key-file="+tokens,
		"--service-account-issuer=https://kubernetes.default.svc",
		"--authorization-mode=RBAC", "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
		// No kubernetes Service endpoint: loopback addresses are not allowed in one, and nothing here needs it.
		"--endpoint-reconciler-type=none", "--service-cluster-ip-range=172.21.0.0/20",
		"--allow-privileged=true", "--profiling=false",
	)
}

// startControllers starts what makes pods out of Deployments, puts them on nodes and plays the kubelets.
func (c *cluster) startControllers() error {
	config := make(map[string]string)
	for user, group := range map[string]string{
		"system:kube-controller-manager": "", "system:kube-scheduler": "", "kwok": "system:masters",
	} {
		file, err := c.kubeconfig(user, group)
		if err != nil {
			return err
		}
		config[user] = file
	}
	return errors.Join(
		c.start("kube-controller-manager", syscall.SIGKILL,
			"--kubeconfig="+config["system:kube-controller-manager"], "--root-ca-file="+c.pki.caFile,
			"--service-account-private-key-file="+filepath.Join(c.pki.dir, "service-accounts.key"),
		),
		c.start("kube-scheduler", syscall.SIGKILL,
			"--kubeconfig="+config["system:kube-scheduler"], "--leader-elect=false", "--secure-port=0",
			"--kube-api-qps=500", "--kube-api-burst=1000", "--profiling=false",
		),
		c.start("kwok", syscall.SIGKILL, "--kubeconfig="+config["kwok"]),
	)
}

func (c *cluster) start(name string, stop syscall.Signal, args ...string) error {
	_, err := c.processes.start(program{name: name, path: filepath.Join(c.binDir, name), args: args, stop: stop})
	return err
}

// kubeconfig writes the file by which one program is this user.
func (c *cluster) kubeconfig(user, group string) (string, error) {
	files, err := c.pki.client(user, group)
	if err != nil {
		return "", err
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["testbed"] = &clientcmdapi.Cluster{Server: c.server, CertificateAuthority: c.pki.caFile}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificate: files.cert, ClientKey: files.key}
	config.Contexts["testbed"] = &clientcmdapi.Context{Cluster: "testbed", AuthInfo: user}
	config.CurrentContext = "testbed"
	// One file that works wherever it is copied to.
	if err := clientcmdapi.FlattenConfig(config); err != nil {
		return "", err
	}
	file := filepath.Join(c.dir, user+".kubeconfig")
	return file, clientcmd.WriteToFile(*config, file)
}

// until asks every 50 ms whether a program is ready and ends early when it is known that it never will be.
func (c *cluster) until(ctx context.Context, name string, ready func(context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	for tick := time.NewTicker(50 * time.Millisecond); !ready(ctx); {
		select {
		case <-tick.C:
		case <-c.processes.died:
			return c.processes.failure
		case <-ctx.Done():
			return fmt.Errorf("%s was not ready (%w); the end of its log:\n%s", name, ctx.Err(), c.processes.tail(name))
		}
	}
	return nil
}

func apiServerReady(client kubernetes.Interface) func(context.Context) bool {
	return func(ctx context.Context) bool {
		_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err == nil
	}
}

// podsCanBeCreated: a namespace takes pods once it has its default service account and the authority's certificate.
func podsCanBeCreated(client kubernetes.Interface) func(context.Context) bool {
	return func(ctx context.Context) bool {
		_, account := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		_, authority := client.CoreV1().ConfigMaps("default").Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
		return account == nil && authority == nil
	}
}

func clientFor(kubeconfig string) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}
