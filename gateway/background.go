package gateway

import (
	"context"
	"sync"
)

// background owns the goroutines that handlers leave behind: sending a script, waiting for one. It is started and
// stopped by [Gateway.Run]; what comes after stop is not begun.
type background struct {
	mu     sync.Mutex
	ctx    context.Context // nil while nothing may begin
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func (b *background) start(ctx context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ctx, b.cancel = context.WithCancel(ctx)
}

// run begins f in a goroutine of its own and reports whether it did.
func (b *background) run(f func(context.Context)) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx == nil {
		return false
	}
	ctx := b.ctx
	b.wg.Go(func() { f(ctx) })
	return true
}

// stop ends what runs and waits for it.
func (b *background) stop() {
	b.mu.Lock()
	if b.cancel != nil {
		b.cancel()
	}
	b.ctx = nil
	b.mu.Unlock()
	b.wg.Wait()
}
