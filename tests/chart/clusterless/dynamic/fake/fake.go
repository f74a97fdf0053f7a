// Package fake is there for `go mod tidy`, which looks for what Helm's own tests import.
package fake
