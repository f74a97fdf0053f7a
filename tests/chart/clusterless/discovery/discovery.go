// Package discovery stands in for client-go's: there is no cluster whose resources could be listed.
package discovery

import (
	"errors"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// Client has no instances.
type Client struct{}

// NewDiscoveryClientForConfig fails.
func NewDiscoveryClientForConfig(*rest.Config) (*Client, error) {
	return nil, errors.New("a chart is rendered without a cluster")
}

// ServerResourcesForGroupVersion is never called.
func (*Client) ServerResourcesForGroupVersion(string) (*metav1.APIResourceList, error) {
	return nil, errors.New("a chart is rendered without a cluster")
}
