//go:build !postgres

package main

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/quota/v1/generic"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/scale"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/client-go/util/keyutil"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller"
	"k8s.io/kubernetes/pkg/controller/certificates/rootcacertpublisher"
	"k8s.io/kubernetes/pkg/controller/clusterroleaggregation"
	"k8s.io/kubernetes/pkg/controller/cronjob"
	"k8s.io/kubernetes/pkg/controller/daemon"
	"k8s.io/kubernetes/pkg/controller/deployment"
	"k8s.io/kubernetes/pkg/controller/disruption"
	"k8s.io/kubernetes/pkg/controller/endpoint"
	"k8s.io/kubernetes/pkg/controller/endpointslice"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"
	"k8s.io/kubernetes/pkg/controller/job"
	"k8s.io/kubernetes/pkg/controller/namespace"
	"k8s.io/kubernetes/pkg/controller/nodelifecycle"
	"k8s.io/kubernetes/pkg/controller/replicaset"
	"k8s.io/kubernetes/pkg/controller/replication"
	"k8s.io/kubernetes/pkg/controller/resourcequota"
	serviceaccounts "k8s.io/kubernetes/pkg/controller/serviceaccount"
	"k8s.io/kubernetes/pkg/controller/statefulset"
	"k8s.io/kubernetes/pkg/controller/tainteviction"
	"k8s.io/kubernetes/pkg/controller/ttlafterfinished"
	"k8s.io/kubernetes/pkg/controller/volume/pvcprotection"
	"k8s.io/kubernetes/pkg/controller/volume/pvprotection"
	quota "k8s.io/kubernetes/pkg/quota/v1/install"
	"k8s.io/kubernetes/pkg/serviceaccount"
	"waygate.dev/controlplane/podgc"
)

// loop runs a controller until its context ends.
type loop func(ctx context.Context)

// controllers are those of kube-controller-manager that run here, under the names of their service accounts. Numbers are
// kube-controller-manager's defaults unless a comment says why not.
//
// The token controller is the first: the others ask for their tokens by it. Left out are volumes' provisioning (nothing
// here has a disk), autoscaling (nothing here measures), certificate signing, bootstrapping, cloud providers, node CIDRs
// (the testbed's nodes come with theirs) and dynamic resources.
var controllers = []struct {
	name  string
	build func(context.Context, *manager) (loop, error)
}{
	{"tokens-controller", serviceAccountTokens},
	{"service-account-controller", defaultServiceAccounts},
	{"root-ca-cert-publisher", rootCertificates},
	{"clusterrole-aggregation-controller", clusterRoleAggregation},
	{"namespace-controller", namespaces},
	{"resourcequota-controller", resourceQuotas},
	{"generic-garbage-collector", garbageCollection},
	{"replication-controller", replicationControllers},
	{"replicaset-controller", replicaSets},
	{"deployment-controller", deployments},
	{"statefulset-controller", statefulSets},
	{"daemon-set-controller", daemonSets},
	{"job-controller", jobs},
	{"cronjob-controller", cronJobs},
	{"ttl-after-finished-controller", finishedJobs},
	{"disruption-controller", disruptionBudgets},
	{"endpoint-controller", endpoints},
	{"endpointslice-controller", endpointSlices},
	{"node-controller", nodeLifecycle},
	{"node-controller", taintEviction},
	{"pod-garbage-collector", podGarbageCollection},
	{"pvc-protection-controller", claimProtection},
	{"pv-protection-controller", volumeProtection},
}

func serviceAccountTokens(ctx context.Context, m *manager) (loop, error) {
	key, err := keyutil.PrivateKeyFromFile(m.serviceTokensKey)
	if err != nil {
		return nil, err
	}
	generator, err := serviceaccount.JWTTokenGenerator(serviceaccount.LegacyIssuer, key)
	if err != nil {
		return nil, err
	}
	core := m.informers.Core().V1()
	options := serviceaccounts.TokensControllerOptions{TokenGenerator: generator, RootCA: m.rootCA}
	c, err := serviceaccounts.NewTokensController(klog.FromContext(ctx), core.ServiceAccounts(), core.Secrets(), m.root, options)
	return func(ctx context.Context) { c.Run(ctx, 5) }, err
}

func defaultServiceAccounts(ctx context.Context, m *manager) (loop, error) {
	core := m.informers.Core().V1()
	c, err := serviceaccounts.NewServiceAccountsController(klog.FromContext(ctx), core.ServiceAccounts(), core.Namespaces(),
		m.clients.ClientOrDie("service-account-controller"), serviceaccounts.DefaultServiceAccountsControllerOptions())
	return func(ctx context.Context) { c.Run(ctx, 1) }, err
}

func rootCertificates(_ context.Context, m *manager) (loop, error) {
	core := m.informers.Core().V1()
	c, err := rootcacertpublisher.NewPublisher(core.ConfigMaps(), core.Namespaces(), m.clients.ClientOrDie("root-ca-cert-publisher"), m.rootCA)
	return func(ctx context.Context) { c.Run(ctx, 1) }, err
}

func clusterRoleAggregation(_ context.Context, m *manager) (loop, error) {
	client := m.clients.ClientOrDie("clusterrole-aggregation-controller")
	c := clusterroleaggregation.NewClusterRoleAggregation(m.informers.Rbac().V1().ClusterRoles(), client.RbacV1())
	return func(ctx context.Context) { c.Run(ctx, 5) }, nil
}

func namespaces(ctx context.Context, m *manager) (loop, error) {
	config := m.clients.ConfigOrDie("namespace-controller")
	// For each namespace that ends, this controller lists every kind there is.
	config.QPS, config.Burst = config.QPS*20, config.Burst*100
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	objects, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	c := namespace.NewNamespaceController(ctx, client, objects, client.Discovery().ServerPreferredNamespacedResources,
		m.informers.Core().V1().Namespaces(), 5*time.Minute, corev1.FinalizerKubernetes)
	return func(ctx context.Context) { c.Run(ctx, 10) }, nil
}

func resourceQuotas(ctx context.Context, m *manager) (loop, error) {
	client := m.clients.ClientOrDie("resourcequota-controller")
	discover := client.Discovery().ServerPreferredNamespacedResources
	configuration, err := quota.NewQuotaConfigurationForControllers(generic.ListerFuncForResourceFunc(m.informers.ForResource), m.informers)
	if err != nil {
		return nil, err
	}
	c, err := resourcequota.NewController(ctx, &resourcequota.ControllerOptions{
		QuotaClient:               client.CoreV1(),
		ResourceQuotaInformer:     m.informers.Core().V1().ResourceQuotas(),
		ResyncPeriod:              controller.StaticResyncPeriodFunc(5 * time.Minute),
		InformerFactory:           m.any,
		ReplenishmentResyncPeriod: controller.StaticResyncPeriodFunc(informerResync),
		DiscoveryFunc:             discover,
		IgnoredResourcesFunc:      configuration.IgnoredResources,
		InformersStarted:          m.started,
		Registry:                  generic.NewRegistry(configuration.Evaluators()),
		UpdateFilter:              quota.DefaultUpdateFilter(),
	})
	return func(ctx context.Context) {
		go c.Sync(ctx, discover, 30*time.Second)
		c.Run(ctx, 5)
	}, err
}

func garbageCollection(ctx context.Context, m *manager) (loop, error) {
	const sync = 30 * time.Second
	client, config := m.clients.ClientOrDie("generic-garbage-collector"), m.clients.ConfigOrDie("generic-garbage-collector")
	config.QPS *= 2 // a deletion takes two calls
	objects, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	graph := garbagecollector.NewDependencyGraphBuilder(ctx, m.metadata, m.mapper, garbagecollector.DefaultIgnoredResources(), m.any, m.started)
	c, err := garbagecollector.NewComposedGarbageCollector(ctx, client, objects, m.mapper, graph)
	return func(ctx context.Context) {
		go c.Sync(ctx, client.Discovery(), sync)
		c.Run(ctx, 20, sync)
	}, err
}

func replicationControllers(ctx context.Context, m *manager) (loop, error) {
	core := m.informers.Core().V1()
	client := m.clients.ClientOrDie("replication-controller")
	c := replication.NewReplicationManager(ctx, core.Pods(), core.ReplicationControllers(), client, replication.BurstReplicas)
	return func(ctx context.Context) { c.Run(ctx, 5) }, nil
}

func replicaSets(ctx context.Context, m *manager) (loop, error) {
	client := m.clients.ClientOrDie("replicaset-controller")
	c := replicaset.NewReplicaSetController(ctx, m.informers.Apps().V1().ReplicaSets(), m.informers.Core().V1().Pods(), client, replicaset.BurstReplicas)
	return func(ctx context.Context) { c.Run(ctx, 5) }, nil
}

// deployments works on 10 at once, and not on 5: the whole suite's tests share it.
func deployments(ctx context.Context, m *manager) (loop, error) {
	apps := m.informers.Apps().V1()
	c, err := deployment.NewDeploymentController(ctx, apps.Deployments(), apps.ReplicaSets(), m.informers.Core().V1().Pods(),
		m.clients.ClientOrDie("deployment-controller"))
	return func(ctx context.Context) { c.Run(ctx, 10) }, err
}

// statefulSets works on 10 at once, for the reason that deployments does.
func statefulSets(ctx context.Context, m *manager) (loop, error) {
	core, apps := m.informers.Core().V1(), m.informers.Apps().V1()
	c := statefulset.NewStatefulSetController(ctx, core.Pods(), apps.StatefulSets(), core.PersistentVolumeClaims(), apps.ControllerRevisions(),
		m.clients.ClientOrDie("statefulset-controller"))
	return func(ctx context.Context) { c.Run(ctx, 10) }, nil
}

func daemonSets(ctx context.Context, m *manager) (loop, error) {
	core, apps := m.informers.Core().V1(), m.informers.Apps().V1()
	c, err := daemon.NewDaemonSetsController(ctx, apps.DaemonSets(), apps.ControllerRevisions(), core.Pods(), core.Nodes(),
		m.clients.ClientOrDie("daemon-set-controller"), flowcontrol.NewBackOff(time.Second, 15*time.Minute))
	return func(ctx context.Context) { c.Run(ctx, 2) }, err
}

func jobs(ctx context.Context, m *manager) (loop, error) {
	client := m.clients.ClientOrDie("job-controller")
	c, err := job.NewController(ctx, client, m.informers.Core().V1().Pods(), m.informers.Batch().V1().Jobs(), nil, nil)
	return func(ctx context.Context) { c.Run(ctx, 5) }, err
}

func cronJobs(ctx context.Context, m *manager) (loop, error) {
	batch := m.informers.Batch().V1()
	c, err := cronjob.NewControllerV2(ctx, batch.Jobs(), batch.CronJobs(), m.clients.ClientOrDie("cronjob-controller"))
	return func(ctx context.Context) { c.Run(ctx, 5) }, err
}

func finishedJobs(ctx context.Context, m *manager) (loop, error) {
	c := ttlafterfinished.New(ctx, m.informers.Batch().V1().Jobs(), m.clients.ClientOrDie("ttl-after-finished-controller"))
	return func(ctx context.Context) { c.Run(ctx, 5) }, nil
}

func disruptionBudgets(ctx context.Context, m *manager) (loop, error) {
	client, config := m.clients.ClientOrDie("disruption-controller"), m.clients.ConfigOrDie("disruption-controller")
	kinds := scale.NewDiscoveryScaleKindResolver(client.Discovery())
	scales, err := scale.NewForConfig(config, m.mapper, dynamic.LegacyAPIPathResolverFunc, kinds)
	if err != nil {
		return nil, err
	}
	core, apps := m.informers.Core().V1(), m.informers.Apps().V1()
	c := disruption.NewDisruptionController(ctx, core.Pods(), m.informers.Policy().V1().PodDisruptionBudgets(),
		core.ReplicationControllers(), apps.ReplicaSets(), apps.Deployments(), apps.StatefulSets(),
		client, m.mapper, scales, client.Discovery())
	return c.Run, nil
}

func endpoints(ctx context.Context, m *manager) (loop, error) {
	core := m.informers.Core().V1()
	client := m.clients.ClientOrDie("endpoint-controller")
	c := endpoint.NewEndpointController(ctx, core.Pods(), core.Services(), core.Endpoints(), client, 0)
	return func(ctx context.Context) { c.Run(ctx, 5) }, nil
}

func endpointSlices(ctx context.Context, m *manager) (loop, error) {
	core := m.informers.Core().V1()
	c := endpointslice.NewController(ctx, core.Pods(), core.Services(), core.Nodes(), m.informers.Discovery().V1().EndpointSlices(), 100,
		m.clients.ClientOrDie("endpointslice-controller"), 0)
	return func(ctx context.Context) { c.Run(ctx, 5) }, nil
}

// nodeLifecycle gives a silent node an hour: a machine that sleeps or is short of processors must not lose its nodes.
func nodeLifecycle(ctx context.Context, m *manager) (loop, error) {
	core := m.informers.Core().V1()
	const period, startGrace, grace, rate, secondaryRate, large, unhealthy = 5 * time.Second, time.Minute, time.Hour, 0.1, 0.01, 50, 0.55
	c, err := nodelifecycle.NewNodeLifecycleController(ctx, m.informers.Coordination().V1().Leases(), core.Pods(), core.Nodes(),
		m.informers.Apps().V1().DaemonSets(), m.clients.ClientOrDie("node-controller"),
		period, startGrace, grace, rate, secondaryRate, large, unhealthy)
	return func(ctx context.Context) { c.Run(ctx) }, err
}

func taintEviction(ctx context.Context, m *manager) (loop, error) {
	core := m.informers.Core().V1()
	c, err := tainteviction.New(ctx, m.clients.ClientOrDie("node-controller"), core.Pods(), core.Nodes(), "taint-eviction-controller")
	return func(ctx context.Context) { c.Run(ctx) }, err
}

func podGarbageCollection(ctx context.Context, m *manager) (loop, error) {
	core := m.informers.Core().V1()
	c := podgc.NewPodGC(ctx, m.clients.ClientOrDie("pod-garbage-collector"), core.Pods(), core.Nodes(), 12500)
	return c.Run, nil
}

func claimProtection(ctx context.Context, m *manager) (loop, error) {
	core := m.informers.Core().V1()
	c, err := pvcprotection.NewPVCProtectionController(klog.FromContext(ctx), core.PersistentVolumeClaims(), core.Pods(),
		m.clients.ClientOrDie("pvc-protection-controller"))
	return func(ctx context.Context) { c.Run(ctx, 1) }, err
}

func volumeProtection(ctx context.Context, m *manager) (loop, error) {
	client := m.clients.ClientOrDie("pv-protection-controller")
	c := pvprotection.NewPVProtectionController(klog.FromContext(ctx), m.informers.Core().V1().PersistentVolumes(), client)
	return func(ctx context.Context) { c.Run(ctx, 1) }, nil
}
