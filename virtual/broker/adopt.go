package broker

import "sync"

// adoption collects the pumps that are woken while a single message is put, so that the publisher makes their step itself
// once the store has answered: the message is with its consumer without another goroutine. The store calls wakes under no
// lock, but on whatever goroutine, perhaps of another process; nobody but ourselves is ever made to do our work.
type adoption struct {
	mu    sync.Mutex
	open  bool
	pumps []*pump
	spare []*pump
}

// begin has pumps collected. One caller at a time.
func (a *adoption) begin() {
	a.mu.Lock()
	a.open = true
	a.mu.Unlock()
}

// take adopts a pump, if pumps are collected.
func (a *adoption) take(p *pump) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open {
		a.pumps = append(a.pumps, p)
	}
	return a.open
}

// end stops collecting and runs the pumps: the first here, others, which are there when somebody else put or requeued meanwhile,
// on goroutines of their own.
func (a *adoption) end() {
	a.mu.Lock()
	a.open = false
	pumps := a.pumps
	a.pumps = a.spare[:0]
	a.spare = pumps
	a.mu.Unlock()
	for i, p := range pumps {
		pumps[i] = nil
		if i == 0 {
			p.wakeHere()
		} else {
			p.wake()
		}
	}
}
