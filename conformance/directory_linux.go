package conformance

import "syscall"

// memoryDir is a file system in memory with a gigabyte to spare, or empty.
func memoryDir() string {
	const dir = "/dev/shm"
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < 1<<30 {
		return ""
	}
	return dir
}
