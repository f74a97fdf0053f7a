// Package kubernetes stands in for client-go's, which Helm imports only to know the module's version.
package kubernetes
