// Package soak is what "dashi soak" sends, writes down and judges: a Plan says of every message where it goes and what
// becomes of it there, a Book is where one process writes what it is about to do and has done, and a Ledger reads the books
// of all and judges what came. It knows no broker: the processes are in cmd/dashi.
//
// # The books
//
// A book is a file of lines, one write(2) each and no buffer, so that what a process wrote before a SIGKILL is there. (What
// the machine itself loses when it stops is not asked.) Times are nanoseconds of the one clock that all processes have.
//
//	p SEQ T                       a producer is about to publish the message SEQ, for the first time or again
//	c SEQ T                       it was confirmed
//	n SEQ T                       it was nacked, and will be published again
//	g D S QUEUE PRODUCER SEQ T    a consumer got, as its delivery D in its session S, a message from a queue
//	b QUEUE T                     it got something that is no message of ours, or not as it was sent
//	s D ANSWER T                  it is about to answer the delivery D: a ack, r reject, q requeue
//	d D T                         that answer has reached the place: it was asked at T, and said so
//	e S T                         the session S ended, and nobody had asked for it
//	k NAME T                      the process NAME is about to be killed
//	r T, R T                      a restart of the server begins, and has ended
package soak
