package natsd

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStart_WhatWasConfirmedIsThereAfterTheNextStart(t *testing.T) {
	cfg := Config{Dir: filepath.Join(t.TempDir(), "new")}
	s := mustStart(t, cfg)
	js := connect(t, s.URL())
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "s", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	s.Close()

	js = connect(t, mustStart(t, cfg).URL())
	stream, err := js.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	msg, err := stream.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("kept", string(msg.Data)); diff != "" {
		t.Errorf("message after the next start (-want +got):\n%s", diff)
	}
}

func TestStart_SyncsEveryWriteUnlessToldOtherwise(t *testing.T) {
	if opts := options(Config{}, loopback, 0); !opts.SyncAlways {
		t.Error("without an interval: writes are answered before they are synced")
	}
	opts := options(Config{SyncInterval: time.Second}, loopback, 0)
	if opts.SyncAlways || opts.SyncInterval != time.Second {
		t.Errorf("with an interval of 1s: got always %t, interval %s", opts.SyncAlways, opts.SyncInterval)
	}
}

func TestStart_KeepsItsFolderFromOtherUsers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	mustStart(t, Config{Dir: dir})
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o700 {
		t.Errorf("mode of the folder: got %o, want 700", got)
	}
}

func TestStart_LetsInOnlyThoseWhoHaveTheToken(t *testing.T) {
	s := mustStart(t, Config{Dir: t.TempDir(), Token: "secret"})
	if strings.Contains(s.URL(), "secret") {
		t.Errorf("the URL %s gives the token away", s.URL())
	}
	for name, opts := range map[string][]nats.Option{"none": nil, "wrong": {nats.Token("guess")}} {
		if nc, err := nats.Connect(s.URL(), opts...); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("token %s: got %v, want %v", name, err, nats.ErrAuthorization)
			nc.Close()
		}
	}
	connect(t, s.URL(), nats.Token("secret"))
}

func TestStart_ErrorsNameWhatIsWrong(t *testing.T) {
	taken, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	badStore := t.TempDir() // where only the server itself notices
	if err := os.WriteFile(filepath.Join(badStore, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	inUse := t.TempDir()
	mustStart(t, Config{Dir: inUse})

	for name, tt := range map[string]struct {
		cfg  Config
		want []string
	}{
		"address in use":       {Config{Dir: t.TempDir(), Listen: taken.Addr().String()}, []string{taken.Addr().String(), "in use", "choose another"}},
		"address of another":   {Config{Dir: t.TempDir(), Listen: "192.0.2.1:0"}, []string{"192.0.2.1:0", "of this machine"}},
		"no port":              {Config{Dir: t.TempDir(), Listen: "localhost"}, []string{`"localhost"`, "host:port"}},
		"port out of range":    {Config{Dir: t.TempDir(), Listen: "localhost:70000"}, []string{`"70000"`, "65535"}},
		"no folder":            {Config{}, []string{"no folder"}},
		"folder is a file":     {Config{Dir: file}, []string{file, "not a directory"}},
		"folder below a file":  {Config{Dir: filepath.Join(file, "data")}, []string{file, "not a directory"}},
		"folder of another":    {Config{Dir: inUse}, []string{inUse, "another embedded NATS server"}},
		"store is no folder":   {Config{Dir: badStore}, []string{badStore, "is not a directory"}},
		"server name in words": {Config{Dir: t.TempDir(), Name: "two words"}, []string{"spaces"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Start(t.Context(), tt.cfg)
			if err == nil {
				s.Close()
				t.Fatal("got no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

func TestStart_LeavesNothingBehindWhenItIsCancelled(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	atFirstLine := writerFunc(func(line []byte) (int, error) { cancel(stopped); return len(line), nil })
	s, err := Start(ctx, Config{Dir: dir, Logger: zerolog.New(atFirstLine)})
	if err == nil {
		s.Close()
	}
	if !errors.Is(err, stopped) {
		t.Fatalf("got %v, want the cause of the cancellation", err)
	}
	mustStart(t, Config{Dir: dir}) // the folder is free again
}

func TestServer_CloseMayBeCalledTwice(t *testing.T) {
	s := mustStart(t, Config{Dir: t.TempDir()})
	s.Close()
	s.Close()
	if nc, err := nats.Connect(s.URL()); err == nil {
		nc.Close()
		t.Error("the server still takes connections")
	}
}

func TestServer_ErrSaysThatJetStreamHasStopped(t *testing.T) {
	s := mustStart(t, Config{Dir: t.TempDir()})
	if err := s.Err(); err != nil {
		t.Fatalf("of a server that is well: %v", err)
	}
	if err := s.nats.ShutdownJetStream(); err != nil { // as the server does by itself when it is refused permission
		t.Fatal(err)
	}
	if s.Err() == nil {
		t.Error("after JetStream was turned off: got nil, want an error")
	}
}

func TestServer_ErrSaysThatItWasClosed(t *testing.T) {
	s := mustStart(t, Config{Dir: t.TempDir()})
	s.Close()
	if s.Err() == nil {
		t.Error("got nil, want an error")
	}
}

func TestLogger_KeepsWarningsAndErrorsApartFromTheRest(t *testing.T) {
	var out bytes.Buffer
	l := &logger{log: zerolog.New(&out)}
	l.Errorf("disk %d", 1)
	l.Warnf("slow %d", 2)
	l.Noticef("ready %d", 3)
	want := `{"level":"error","message":"disk 1"}
{"level":"warn","message":"slow 2"}
{"level":"debug","message":"ready 3"}
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func mustStart(t *testing.T, cfg Config) *Server {
	t.Helper()
	cfg.Logger = zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func connect(t *testing.T, url string, opts ...nats.Option) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url, append(opts, nats.NoReconnect())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
