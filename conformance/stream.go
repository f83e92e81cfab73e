package conformance

import (
	"fmt"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// stream is a consumer whose helpers fail the row by themselves.
type stream struct {
	e     *Env
	l     *line
	queue string
	tag   string
	out   <-chan channel.Delivery
	cause chan error // how it ended
	over  bool       // cause has been read into end
	end   error
}

// ended returns the cause once the deliveries have ended.
func (s *stream) ended() error {
	if !s.over {
		s.over, s.end = true, <-s.cause
	}
	return s.end
}

// consume starts a consumer; without a tag in o it gets one that the row knows.
func (l *line) consume(queue string, o channel.ConsumeOptions) *stream {
	if o.Tag == "" {
		o.Tag = l.e.name("tag")
	}
	s := &stream{e: l.e, l: l, queue: queue, tag: o.Tag, cause: make(chan error, 1)}
	o.Ended = func(cause error) { s.cause <- cause }
	out, err := l.Consume(l.e.ctx, queue, o)
	l.e.must(err, "consume from %q", queue)
	s.out = out
	return s
}

// window is consume with a prefetch window of its own.
func (l *line) window(n int, queue string, o ...channel.ConsumeOptions) *stream {
	l.qos(n, false)
	o = append(o, channel.ConsumeOptions{})
	return l.consume(queue, o[0])
}

// qos sets the prefetch count.
func (l *line) qos(n int, global bool) {
	l.e.must(l.Qos(l.e.ctx, n, 0, global), "qos %d, global %v", n, global)
}

// next waits for the next delivery.
func (s *stream) next() channel.Delivery {
	s.e.Helper()
	d, ok := s.within(s.e.patience())
	if !ok {
		s.e.Fatalf("no delivery from %q within %v", s.queue, s.e.patience())
	}
	return d
}

// within waits for a delivery for a time.
func (s *stream) within(t time.Duration) (channel.Delivery, bool) {
	s.e.Helper()
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case d, ok := <-s.out:
		if !ok {
			s.e.Fatalf("the consumer of %q has ended: %v", s.queue, s.ended())
		}
		return s.note(d), true
	case <-timer.C:
		return channel.Delivery{}, false
	case <-s.e.ctx.Done():
		s.e.Fatalf("waiting for a delivery from %q: %v", s.queue, s.e.ctx.Err())
		return channel.Delivery{}, false
	}
}

func (s *stream) note(d channel.Delivery) channel.Delivery {
	if d.ConsumerTag != s.tag {
		s.e.Errorf("a delivery from %q names consumer %q, want %q", s.queue, d.ConsumerTag, s.tag)
	}
	return s.l.seen(d)
}

// take waits for n deliveries.
func (s *stream) take(n int) []channel.Delivery {
	s.e.Helper()
	ds := make([]channel.Delivery, 0, n)
	for range n {
		d, ok := s.within(s.e.patience())
		if !ok {
			s.e.Fatalf("%d of %d deliveries from %q within %v: %s", len(ds), n, s.queue, s.e.patience(), show(bodies(ds)))
		}
		ds = append(ds, d)
	}
	return ds
}

// gets waits for deliveries with these bodies, in order where the store keeps it.
func (s *stream) gets(want ...string) []channel.Delivery {
	s.e.Helper()
	return s.e.came("deliveries from "+s.queue, s.queue, s.take(len(want)), want...)
}

// silent checks that nothing comes for a unit of time.
func (s *stream) silent(why string) {
	s.e.Helper()
	if d, ok := s.within(s.e.unit(1)); ok {
		s.e.Fatalf("%s: %q came from %q (tag %d, redelivered %v)", why, d.Body, s.queue, d.DeliveryTag, d.Redelivered)
	}
}

// cancel ends the consumer and returns what it had been delivered before.
func (s *stream) cancel() []channel.Delivery {
	s.e.must(s.l.Cancel(s.e.ctx, s.tag), "cancel")
	ds, cause := s.rest()
	if cause != nil {
		s.e.Errorf("a consumer that we cancelled ended with %v", cause)
	}
	return ds
}

// rest waits for the end of the consumer and returns what came before it, and its cause.
func (s *stream) rest() ([]channel.Delivery, error) {
	s.e.Helper()
	timer := time.NewTimer(s.e.patience())
	defer timer.Stop()
	var ds []channel.Delivery
	for {
		select {
		case d, ok := <-s.out:
			if !ok {
				return ds, s.ended()
			}
			ds = append(ds, s.note(d))
		case <-timer.C:
			s.e.Fatalf("the consumer of %q has not ended within %v", s.queue, s.e.patience())
		}
	}
}

// ends waits for the end of the consumer, without deliveries before it, and returns its cause.
func (s *stream) ends() error {
	s.e.Helper()
	ds, cause := s.rest()
	if len(ds) > 0 {
		s.e.Fatalf("before its end the consumer of %q got %s", s.queue, show(bodies(ds)))
	}
	return cause
}

// share collects n deliveries from several consumers, whoever gets them, and then checks that no more come. It
// returns what each got.
func (e *Env) share(n int, streams ...*stream) [][]channel.Delivery {
	e.Helper()
	got := make([][]channel.Delivery, len(streams))
	total := 0
	end := time.Now().Add(e.patience())
	for total < n {
		before := total
		for i, s := range streams {
			select {
			case d, ok := <-s.out:
				if !ok {
					e.Fatalf("consumer %d of %q has ended: %v", i, s.queue, s.ended())
				}
				got[i] = append(got[i], s.note(d))
				total++
			default:
			}
		}
		if total > before {
			continue
		}
		if time.Now().After(end) {
			e.Fatalf("%d of %d deliveries within %v: %s", total, n, e.patience(), sharesText(got))
		}
		e.pause(min(e.rig.Unit()/100, 2*time.Millisecond))
	}
	e.pause(e.unit(1))
	for i, s := range streams {
		select {
		case d, ok := <-s.out:
			if ok {
				e.Fatalf("beyond the %d expected, consumer %d got %q; before: %s", n, i, d.Body, sharesText(got))
			}
		default:
		}
	}
	return got
}

func sharesText(got [][]channel.Delivery) string {
	s := ""
	for i, ds := range got {
		s += fmt.Sprintf(" consumer %d: %s;", i, show(bodies(ds)))
	}
	return s
}

// ack acknowledges deliveries one by one.
func (e *Env) ack(ds ...channel.Delivery) {
	e.Helper()
	for i := range ds {
		e.must(ds[i].Ack(false), "ack of %d", ds[i].DeliveryTag)
	}
}

// first returns the only delivery of a list.
func (e *Env) first(ds []channel.Delivery) channel.Delivery {
	e.Helper()
	if len(ds) != 1 {
		e.Fatalf("%d deliveries where one was expected: %s", len(ds), show(bodies(ds)))
	}
	return ds[0]
}

// redelivered checks the flag of deliveries.
func (e *Env) redelivered(want bool, ds ...channel.Delivery) {
	e.Helper()
	for _, d := range ds {
		if d.Redelivered != want {
			e.Errorf("%q (tag %d): redelivered is %v, want %v", d.Body, d.DeliveryTag, d.Redelivered, want)
		}
	}
}
