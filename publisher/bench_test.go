package publisher

import (
	"fmt"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// BenchmarkPublish compares what a Publisher adds to nats.go's asynchronous publish: run both, and divide (M12).
func BenchmarkPublish(b *testing.B) {
	b.Run("bare", func(b *testing.B) {
		srv := natsdtest.Start(b)
		createWork(b, srv.JetStream(b))
		js, err := jetstream.New(srv.Connect(b), jetstream.WithPublishAsyncMaxPending(DefaultWindow))
		if err != nil {
			b.Fatal(err)
		}
		r := validRequest(b, "bare")
		data, err := r.Encode()
		if err != nil {
			b.Fatal(err)
		}
		b.ResetTimer()
		for n := range b.N {
			host := Host(fmt.Sprintf("host-%d.example.net", n))
			msg := &nats.Msg{
				Subject: stream.WorkSubject(r.Group, host),
				Header:  nats.Header{jetstream.MsgIDHeader: {string(host)}},
				Data:    data,
			}
			if _, err := js.PublishMsgAsync(msg, jetstream.WithStallWait(patience)); err != nil {
				b.Fatal(err)
			}
		}
		<-js.PublishAsyncComplete()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
		js.CleanupPublisher()
	})
	b.Run("publisher", func(b *testing.B) {
		srv := natsdtest.Start(b)
		createWork(b, srv.JetStream(b))
		p := openPublisher(b, Config{Conn: srv.Connect(b)})
		var unreported sync.WaitGroup
		unreported.Add(b.N)
		b.ReportAllocs()
		b.ResetTimer()
		for n := range b.N {
			err := p.Publish(b.Context(), Request{Instance: fmt.Sprintf("host-%d", n)}, func(r Result) {
				defer unreported.Done()
				if r.Status != Confirmed {
					b.Error(r.Err)
				}
			})
			if err != nil {
				b.Fatal(err)
			}
		}
		unreported.Wait()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
	})
}
