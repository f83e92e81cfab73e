//go:build !unix

package measure

// OwnCPU is not known here.
func OwnCPU() float64 { return 0 }
