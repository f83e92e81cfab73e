//go:build !linux

package conformance

// memoryDir is a file system in memory: which there is, only Linux says.
func memoryDir() string { return "" }
