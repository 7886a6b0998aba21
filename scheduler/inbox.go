package scheduler

import "sync"

// inbox collects keys for the loop that owns it. However often a key is put before the loop looks, it is taken once.
type inbox[K comparable] struct {
	// wake has a signal waiting while there are keys: put sends, the owner receives. Nobody closes it.
	wake chan struct{}

	mu   sync.Mutex
	keys map[K]struct{}
}

func newInbox[K comparable]() *inbox[K] {
	return &inbox[K]{wake: make(chan struct{}, 1), keys: map[K]struct{}{}}
}

// put never blocks.
func (b *inbox[K]) put(k K) {
	b.mu.Lock()
	b.keys[k] = struct{}{}
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// take empties the inbox.
func (b *inbox[K]) take() []K {
	b.mu.Lock()
	defer b.mu.Unlock()
	keys := make([]K, 0, len(b.keys))
	for k := range b.keys {
		keys = append(keys, k)
	}
	clear(b.keys)
	return keys
}

// keep puts keys back without waking the owner.
func (b *inbox[K]) keep(keys []K) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range keys {
		b.keys[k] = struct{}{}
	}
}
