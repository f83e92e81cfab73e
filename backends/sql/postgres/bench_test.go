package postgres_test

import (
	"testing"

	"github.com/dashi-mq/dashi/conformance"
)

func BenchmarkStore(b *testing.B) {
	conformance.BenchmarkStore(b, conformance.StoreConfig{Name: "postgres", Open: inServer(serverURL(b))})
}
