//go:build !postgres

package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/kwok/pkg/apis/internalversion"
	"sigs.k8s.io/kwok/pkg/apis/v1alpha1"
	"sigs.k8s.io/kwok/pkg/client/clientset/versioned"
	kwok "sigs.k8s.io/kwok/pkg/kwok/controllers"
	"sigs.k8s.io/kwok/pkg/log"
	"sigs.k8s.io/kwok/pkg/utils/client"
)

// managedNodes is the annotation that marks the nodes kwok plays.
const managedNodes = "kwok.x-k8s.io/node=fake"

// stages describes the life of the testbed's pods and nodes for kwok; its own comments explain it.
//
//go:embed stages.yaml
var stages []byte

// runKwok is kwok with our stages. Its own command would bring its cluster tool and its server for kubelets' requests, and
// both Kubernetes' packages and it would claim the global flags.
func runKwok(args []string) error {
	flags := pflag.NewFlagSet("kwok", pflag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "who kwok is, and where the API is")
	flags.Parse(args)

	ctx := log.NewContext(server.SetupSignalContext(), log.NewLogger(os.Stderr, log.LevelInfo))
	config, err := kwokConfig(*kubeconfig)
	if err != nil {
		return err
	}
	controller, err := kwok.NewController(config)
	if err != nil {
		return err
	}
	if err := controller.Start(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// kwokConfig equals the configuration of kwok's own command with the flags --kubeconfig,
// --manage-nodes-with-annotation-selector and --node-lease-duration-seconds.
func kwokConfig(kubeconfig string) (kwok.Config, error) {
	config := kwok.Config{
		Clock:                             clock.RealClock{},
		ManageNodesWithAnnotationSelector: managedNodes,
		NodeLeaseDurationSeconds:          40,
		CIDR:                              "10.0.0.0/24",
		PodPlayStageParallelism:           4,
		NodePlayStageParallelism:          4,
		NodeLeaseParallelism:              4,
		PodsOnNodeSyncParallelism:         1,
		EnablePodsOnNodeSyncListPager:     true,
	}
	clients, err := client.NewClientset("", kubeconfig)
	if err != nil {
		return config, err
	}
	config.ImpersonatingDynamicClient = clients.ToImpersonatingDynamicClient()
	config.ImpersonatingTypedClient = clients.ToImpersonatingTypedClient()
	own, err := clients.ToRESTConfig()
	if err != nil {
		return config, err
	}
	var errs [7]error
	config.DynamicClient, errs[0] = clients.ToDynamicClient()
	config.RESTMapper, errs[1] = clients.ToRESTMapper()
	config.RESTClient, errs[2] = rest.RESTClientFor(own)
	config.TypedClient, errs[3] = kubernetes.NewForConfig(own)
	config.TypedKwokClient, errs[4] = versioned.NewForConfig(own)
	config.LocalStages, errs[5] = readStages()
	config.ID, errs[6] = kwok.Identity()
	return config, errors.Join(errs[:]...)
}

// readStages reads our stages as kwok reads its configuration files.
func readStages() (map[internalversion.StageResourceRef][]*internalversion.Stage, error) {
	byKind := make(map[internalversion.StageResourceRef][]*internalversion.Stage)
	for documents := yaml.NewYAMLToJSONDecoder(bytes.NewReader(stages)); ; {
		var stage v1alpha1.Stage
		if err := documents.Decode(&stage); errors.Is(err, io.EOF) {
			return byKind, nil
		} else if err != nil {
			return nil, fmt.Errorf("stages.yaml: %w", err)
		}
		v1alpha1.SetObjectDefaults_Stage(&stage)
		internal, err := internalversion.ConvertToInternalStage(&stage)
		if err != nil {
			return nil, fmt.Errorf("stage %s: %w", stage.Name, err)
		}
		byKind[internal.Spec.ResourceRef] = append(byKind[internal.Spec.ResourceRef], internal)
	}
}
