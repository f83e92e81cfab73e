package redis

// The scripts of a plain Put, a plain Get and Acks by the names that the server gives them, for who drives them without the store.
var PutSHA, GetSHA, AckSHA = putScript.sha, getScript.sha, ackScript.sha
