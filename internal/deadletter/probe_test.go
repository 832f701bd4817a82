package deadletter

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

func TestProbe(t *testing.T) {
	s := natsdtest.Start(t)
	js := s.JetStream(t)
	st, err := stream.Ensure(t.Context(), js, stream.Settings{AckWait: 30e9, Budget: 5})
	if err != nil { t.Fatal(err) }
	box, err := Open(t.Context(), js)
	if err != nil { t.Fatal(err) }
	c, err := net.Dial("tcp", strings.TrimPrefix(s.URL(), "nats://"))
	if err != nil { t.Fatal(err) }
	defer c.Close()
	r := bufio.NewReader(c)
	r.ReadString('\n')
	fmt.Fprintf(c, "CONNECT {\"verbose\":false}\r\n")
	for _, sub := range []string{"default.*", "default.>", "default..x", "default.", "x", "default.Ünï.$", "default.a\x01b", "default.\xff", "default.x.>.y", "default.*.>", "$JS.x", "default." + strings.Repeat("y", 3000), "default." + strings.Repeat("y.", 200) + "z"} {
		fmt.Fprintf(c, "PUB mandrill.restart.%s 2\r\nhi\r\n", sub)
	}
	fmt.Fprintf(c, "PING\r\n")
	for { l, err := r.ReadString('\n'); t.Logf("%q %v", l, err); if l == "PONG\r\n" || err != nil { break } }
	info, _ := st.Work.Info(t.Context(), jetstream.WithSubjectFilter(">"))
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		m, err := st.Work.GetMsg(t.Context(), seq)
		if err != nil { t.Log(seq, err); continue }
		for range 2 {
			err = box.Bury(t.Context(), Letter{WorkSubject: m.Subject, WorkSequence: seq})
			t.Logf("%d %.60q -> %v", seq, m.Subject, err)
		}
	}
	for _, n := range []int{700000, 786000, 1 << 20} {
		err = box.Bury(t.Context(), Letter{Outcome: restart.Outcome{}, WorkSubject: "mandrill.restart.a.b", WorkSequence: uint64(n), Data: make([]byte, n)})
		t.Logf("%d -> %.200v", n, err)
	}
	i, _ := js.Stream(t.Context(), stream.Dead)
	inf, _ := i.Info(t.Context())
	t.Log(inf.State.Msgs)
}
