// Package script makes random scripts of AMQP operations, runs them on connections, and compares all that clients see with
// package model. A script is plain data: what failed is printed as JSON, made as small as it can be, and kept.
package script
