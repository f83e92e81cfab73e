// Package redis is a store in Redis
package redis
