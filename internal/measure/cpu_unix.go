//go:build unix

package measure

import "syscall"

// OwnCPU is the CPU time of this process in seconds.
func OwnCPU() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
