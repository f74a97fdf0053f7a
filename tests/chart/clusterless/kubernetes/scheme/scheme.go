// Package scheme stands in for client-go's: the API versions of `.Capabilities` that no cluster was asked for. It knows none.
package scheme

import "k8s.io/apimachinery/pkg/runtime"

// Scheme is empty.
var Scheme = runtime.NewScheme()
