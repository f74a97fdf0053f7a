// Package rest stands in for client-go's: a template's `lookup` is given no cluster.
package rest

// Config would say how to reach a cluster.
type Config struct{}
