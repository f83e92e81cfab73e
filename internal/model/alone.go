package model

import "slices"

// ways notes what of a step comes from several sides, in an order that nobody says.
type ways struct {
	paths   map[int]string // how messages came to queues, by id
	queues  map[Slot]int   // whose messages channels got
	several bool
}

// cameTo notes the way by which a message comes to a queue.
func (b *Broker) cameTo(q *queue) {
	w := &b.run.ways
	if before, has := w.paths[q.id]; has && before != b.run.path {
		w.several = true
	}
	if w.paths == nil {
		w.paths = map[int]string{}
	}
	w.paths[q.id] = b.run.path
}

// cameFirst notes a message that expires as it comes, and comes before others by its priority: RabbitMQ finds out when it next
// looks at the head.
func (b *Broker) cameFirst(q *queue, e *entry) {
	if e.instant && len(q.ready) > 1 && q.ready[0] == e {
		b.run.ways.several = true
	}
}

// comeBack notes channels that end together and have messages of one queue: nobody says whose come back first.
func (b *Broker) comeBack(all []*client) {
	of := map[int]*client{}
	for _, ch := range all {
		for _, u := range ch.unacked {
			if other := of[u.id]; other != nil && other != ch {
				b.run.ways.several = true
			}
			of[u.id] = ch
		}
	}
}

// ended notes channels from which something came back and died: another queue may get it before it knows that the channel has
// ended, and hand it to its consumer there.
func (b *Broker) ended(all []*client) {
	if len(b.letters) > 0 && slices.ContainsFunc(all, b.consumes) {
		b.run.ways.several = true
	}
}

// wentTo notes from which queue a channel gets a message.
func (b *Broker) wentTo(ch *client, q *queue) {
	w := &b.run.ways
	if before, has := w.queues[ch.slot]; has && before != q.id {
		w.several = true
	}
	if w.queues == nil {
		w.queues = map[Slot]int{}
	}
	w.queues[ch.slot] = q.id
}

// Alone reports whether nobody had to say in the last step which of several comes first, and does not have to in the next: a
// queue has one consumer, or one that is active, and got messages by one way; a channel got those of one queue, and has no
// window of its own: RabbitMQ may tell a queue of room there before what came back is in it.
func (b *Broker) Alone() bool {
	if b.torn {
		return false
	}
	for _, q := range b.queues {
		if len(q.consumers) > 1 && !q.single() {
			return false
		}
		for _, c := range q.consumers {
			if ch := b.channels[c.slot]; ch != nil && ch.all > 0 {
				return false
			}
		}
	}
	return true
}
