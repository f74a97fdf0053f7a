// Command chart renders a Helm chart as `helm template` does, with Helm's own packages, and without a cluster.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	release "helm.sh/helm/v4/pkg/release/v1/util"
	"helm.sh/helm/v4/pkg/strvals"
)

// usage teaches by examples.
const usage = `chart: renders a Helm chart, for machines without Helm

  chart render CHART [--name NAME] [--namespace NAMESPACE] [--values FILE]... [--set KEY=VALUE]... [--set-json KEY=JSON]...
      Print the objects that Helm would install, in the order in which it would.

      --name NAME           name of the release (default waygate)
      --namespace NAMESPACE namespace of the release, for all objects that live in one (default waygate-system)
      --values FILE         values, as YAML or JSON; later files win; - is standard input
      --set KEY=VALUE       one value, such as worker.replicas=1; wins over files
      --set-json KEY=JSON   one value that is no plain text; wins over files

  chart render manifests/chart
      What "helm install" installs.
  chart render manifests/chart --namespace games --set nameSuffix=-games --set-json 'namespaceSelector={"matchLabels":{"team":"games"}}'
      A second installation, in a namespace of its own and for the namespaces of one team.

Values are explained in the chart's values.yaml. Definitions of custom resources (its folder crds) are not printed.`

func main() {
	if len(os.Args) < 2 || os.Args[1] != "render" {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	// Not that the chart's definitions are a link to the generated file.
	slog.SetLogLoggerLevel(slog.LevelWarn)
	if err := runRender(os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "chart: %v\n", err)
		os.Exit(1)
	}
}

// settings are the values that the command line gives, in the order of their arguments.
type settings struct{ values map[string]any }

// addFile lays a file's values over those before it.
func (s *settings) addFile(file string) error {
	text, err := readFile(file)
	if err != nil {
		return err
	}
	values, err := common.ReadValues(text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	s.values = loader.MergeMaps(s.values, values)
	return nil
}

func readFile(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(file)
}

// runRender reads the arguments and prints the rendered chart.
func runRender(args []string) error {
	flags := flag.NewFlagSet("render", flag.ExitOnError)
	flags.Usage = func() { fmt.Fprintln(os.Stderr, usage) }
	options := common.ReleaseOptions{Revision: 1, IsInstall: true}
	flags.StringVar(&options.Name, "name", "waygate", "")
	flags.StringVar(&options.Namespace, "namespace", "waygate-system", "")
	given := settings{values: make(map[string]any)}
	var single []func() error
	flags.Func("values", "", given.addFile)
	flags.Func("set", "", func(text string) error {
		single = append(single, func() error { return strvals.ParseInto(text, given.values) })
		return nil
	})
	flags.Func("set-json", "", func(text string) error {
		single = append(single, func() error { return strvals.ParseJSON(text, given.values) })
		return nil
	})
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return errors.New("render needs the chart's folder before its options")
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%s is no option", flags.Arg(0))
	}
	for _, set := range single {
		if err := set(); err != nil {
			return err
		}
	}
	return render(os.Stdout, args[0], options, given.values)
}

// render prints a chart's objects as `helm template` does: each after a line with its template's name.
func render(to io.Writer, folder string, options common.ReleaseOptions, values map[string]any) error {
	chart, err := loader.Load(folder)
	if err != nil {
		return err
	}
	top, err := util.ToRenderValues(chart, values, options, common.DefaultCapabilities)
	if err != nil {
		return err
	}
	// Strict: a template that reads a value which values.yaml does not have is wrong.
	texts, err := engine.Engine{Strict: true}.RenderWithContext(context.Background(), chart, top)
	if err != nil {
		return err
	}
	for name := range texts {
		if !strings.HasSuffix(name, ".yaml") {
			delete(texts, name)
		}
	}
	hooks, manifests, err := release.SortManifests(texts, nil, release.InstallOrder)
	if err != nil {
		return err
	}
	if len(hooks) > 0 {
		return fmt.Errorf("%s is a hook, which `kubectl apply` would not run at its time", hooks[0].Path)
	}
	for _, manifest := range manifests {
		if _, err := fmt.Fprintf(to, "---\n# Source: %s\n%s\n", manifest.Name, strings.TrimSpace(manifest.Content)); err != nil {
			return err
		}
	}
	return nil
}
