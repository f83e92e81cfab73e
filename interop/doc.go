// Package interop measures what dashi is compared with, under the same conditions and names as its own benchmarks: other
// matchers of topics, and other libraries that pass messages within a process. It is a module of its own, so that
// their dependencies are nobody's but its.
//
// There is nothing to import here. See the README for how to run it.
package interop
