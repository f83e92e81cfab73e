package channel

import "sync"

// crew is a set of goroutines that an owner joins. After join nothing is started any more.
type crew struct {
	mu   sync.Mutex
	over bool
	wg   sync.WaitGroup
}

// start runs f on a goroutine of the crew, unless it was joined.
func (c *crew) start(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return false
	}
	c.wg.Go(f)
	return true
}

func (c *crew) join() {
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	c.wg.Wait()
}
