package measure

import "runtime"

// Heap is what the heap takes after a collection, in bytes.
func Heap() float64 {
	runtime.GC()
	runtime.GC() // what finalizers let go
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
