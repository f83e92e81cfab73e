package virtual

// Masker is implemented by stores that wrap others, or have a capability in some places only: Offers says whether they
// offer one, given as a nil pointer to its interface, such as (*Registry)(nil).
type Masker interface{ Offers(capability any) bool }

// As returns the capability T of a store, such as As[virtual.Registry](store), and whether it has it.
func As[T any](s Store) (T, bool) {
	if m, ok := s.(Masker); ok && !m.Offers((*T)(nil)) {
		var none T
		return none, false
	}
	t, ok := s.(T)
	return t, ok
}

// Only returns a store that shows the five methods and the traits of s that a bare queue can have, and hides every
// capability.
func Only(s Store) Store { return only{s} }

type only struct{ Store }

func (only) Offers(any) bool { return false }

// Traits keeps what belongs to the five methods.
func (o only) Traits() Traits {
	t := TraitsOf(o.Store)
	t.Guards, t.Ranked = false, false // they need Registry and Notifier
	return t
}

// Close closes the wrapped store.
func (o only) Close() error { return Close(o.Store) }

// Close closes a store that can be closed.
func Close(s Store) error {
	if c, ok := s.(interface{ Close() error }); ok {
		return c.Close()
	}
	return nil
}
