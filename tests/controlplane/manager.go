//go:build !postgres

package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/controller-manager/pkg/clientbuilder"
	"k8s.io/controller-manager/pkg/informerfactory"
	"k8s.io/klog/v2"
)

const (
	// controllerQPS and controllerBurst bound each controller's requests, high enough that tests wait for Waygate only.
	controllerQPS   = 500
	controllerBurst = 1000

	// informerResync is the interval at which each controller processes all objects again, as in kube-controller-manager.
	informerResync = 12 * time.Hour

	// discoveryRefresh is the interval at which the kinds of the API are read again, so that new definitions are known.
	discoveryRefresh = 30 * time.Second
)

// manager runs Kubernetes' own controllers, those of them that pods, their owners and their Services need.
//
// kube-controller-manager's own command imports every controller and, by the volumes' ones, half of the kubelet. Here only
// the controllers that controllers.go names are compiled.
type manager struct {
	clients  clientbuilder.ControllerClientBuilder // every controller is a service account of its own
	root     kubernetes.Interface                  // for what is there before the service accounts are
	mapper   *restmapper.DeferredDiscoveryRESTMapper
	metadata metadata.Interface

	informers informers.SharedInformerFactory
	any       informerfactory.InformerFactory // of every kind, by its metadata where there is no type for it
	started   chan struct{}                   // closed once the informers run

	rootCA           []byte
	serviceTokensKey string // file
}

// runManager is kube-controller-manager.
func runManager(args []string) error {
	flags := pflag.NewFlagSet("kube-controller-manager", pflag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "who the manager is, and where the API is")
	rootCA := flags.String("root-ca-file", "", "the authority that is published in every namespace")
	key := flags.String("service-account-private-key-file", "", "signs the tokens of service accounts that are kept in Secrets")
	flags.Parse(args)

	ctx := server.SetupSignalContext()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	m, err := newManager(ctx, config)
	if err != nil {
		return err
	}
	m.serviceTokensKey = *key
	if m.rootCA, err = os.ReadFile(*rootCA); err != nil {
		return err
	}
	return m.run(ctx)
}

func newManager(ctx context.Context, config *rest.Config) (*manager, error) {
	config.QPS, config.Burst = controllerQPS, controllerBurst
	config.ContentType = runtime.ContentTypeProtobuf
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	root, err := kubernetes.NewForConfig(rest.AddUserAgent(config, "shared-informers"))
	if err != nil {
		return nil, err
	}
	objects, err := metadata.NewForConfig(rest.AddUserAgent(config, "metadata-informers"))
	if err != nil {
		return nil, err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(root.Discovery()))
	go wait.Until(mapper.Reset, discoveryRefresh, ctx.Done())

	shared := informers.NewSharedInformerFactoryWithOptions(root, informerResync, informers.WithTransform(trim))
	byMetadata := metadatainformer.NewSharedInformerFactoryWithOptions(objects, informerResync, metadatainformer.WithTransform(trim))
	return &manager{
		clients:   clientbuilder.NewDynamicClientBuilder(rest.AnonymousClientConfig(config), root.CoreV1(), metav1.NamespaceSystem),
		root:      root,
		mapper:    mapper,
		metadata:  objects,
		informers: shared,
		any:       informerfactory.NewInformerFactory(shared, byMetadata),
		started:   make(chan struct{}),
	}, nil
}

// trim drops fields that no controller reads and that would take most of the memory.
func trim(object any) (any, error) {
	if accessor, err := meta.Accessor(object); err == nil {
		accessor.SetManagedFields(nil)
	}
	return object, nil
}

// run makes all controllers, starts their informers, then the controllers, and never returns on its own.
func (m *manager) run(ctx context.Context) error {
	loops := make([]loop, 0, len(controllers))
	for _, controller := range controllers {
		ctx := klog.NewContext(ctx, klog.LoggerWithName(klog.FromContext(ctx), controller.name))
		loop, err := controller.build(ctx, m)
		if err != nil {
			return fmt.Errorf("%s: %w", controller.name, err)
		}
		loops = append(loops, loop)
	}
	m.informers.Start(ctx.Done())
	m.any.Start(ctx.Done())
	close(m.started)
	for _, loop := range loops {
		go loop(ctx)
	}
	<-ctx.Done()
	return nil
}
