package bus

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// answerTime is how long JetStream may take for one answer. A question that is on its way when its server stops, or when a group has
// no leader, is never answered, and whoever has minutes for a whole piece of work would give all of them to it: a receiver that had
// the whole of a stream was stuck in one question for ten minutes.
const answerTime = 10 * time.Second

// prompt is a JetStream whose answers come within answerTime, or are an error. What drydock does not use of it is as it was.
type prompt struct{ jetstream.JetStream }

func (p prompt) AccountInfo(ctx context.Context) (*jetstream.AccountInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return p.JetStream.AccountInfo(ctx)
}

func (p prompt) PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return p.JetStream.PublishMsg(ctx, msg, opts...)
}

func (p prompt) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	s, err := p.JetStream.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	return promptStream{s}, nil
}

func (p prompt) KeyValue(ctx context.Context, bucket string) (jetstream.KeyValue, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	kv, err := p.JetStream.KeyValue(ctx, bucket)
	if err != nil {
		return nil, err
	}
	return promptBucket{kv}, nil
}

func (p prompt) Consumer(ctx context.Context, stream, name string) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return p.JetStream.Consumer(ctx, stream, name)
}

func (p prompt) OrderedConsumer(ctx context.Context, stream string, cfg jetstream.OrderedConsumerConfig) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return p.JetStream.OrderedConsumer(ctx, stream, cfg)
}

func (p prompt) CreateOrUpdateConsumer(ctx context.Context, stream string, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return p.JetStream.CreateOrUpdateConsumer(ctx, stream, cfg)
}

type promptStream struct{ jetstream.Stream }

func (p promptStream) Info(ctx context.Context, opts ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return p.Stream.Info(ctx, opts...)
}

func (p promptStream) GetMsg(ctx context.Context, seq uint64, opts ...jetstream.GetMsgOpt) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return p.Stream.GetMsg(ctx, seq, opts...)
}

func (p promptStream) GetLastMsgForSubject(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return p.Stream.GetLastMsgForSubject(ctx, subject)
}

type promptBucket struct{ jetstream.KeyValue }

func (p promptBucket) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return p.KeyValue.Get(ctx, key)
}

func (p promptBucket) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return p.KeyValue.Put(ctx, key, value)
}

func (p promptBucket) Create(ctx context.Context, key string, value []byte, opts ...jetstream.KVCreateOpt) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return p.KeyValue.Create(ctx, key, value, opts...)
}

func (p promptBucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return p.KeyValue.Update(ctx, key, value, revision)
}

func (p promptBucket) Delete(ctx context.Context, key string, opts ...jetstream.KVDeleteOpt) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return p.KeyValue.Delete(ctx, key, opts...)
}

func (p promptBucket) Purge(ctx context.Context, key string, opts ...jetstream.KVDeleteOpt) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return p.KeyValue.Purge(ctx, key, opts...)
}
