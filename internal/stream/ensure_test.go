package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

var testSettings = Settings{AckWait: 30 * time.Second, Budget: 20}

func TestEnsure_CreatesWhatIsAbsent(t *testing.T) {
	js := natsdtest.Start(t).JetStream(t)
	before := time.Now()
	s := mustEnsure(t, js)

	type config struct {
		Subjects  []string
		Retention jetstream.RetentionPolicy
		Storage   jetstream.StorageType
		Discard   jetstream.DiscardPolicy
		PerHost   int64
		Refuses   bool
		MaxAge    time.Duration
		Kept      bool
		Window    time.Duration
		Replicas  int
	}
	const day = 24 * time.Hour
	for stream, want := range map[jetstream.Stream]config{
		s.Work:    {[]string{"mandrill.restart.>"}, jetstream.WorkQueuePolicy, jetstream.FileStorage, jetstream.DiscardNew, 1, true, 0, false, 2 * time.Minute, 1},
		s.Journal: {[]string{"mandrill.journal.>"}, jetstream.LimitsPolicy, jetstream.FileStorage, jetstream.DiscardNew, -1, false, 8 * day, true, 2 * time.Minute, 1},
		s.Dead:    {[]string{"mandrill.dead.>"}, jetstream.LimitsPolicy, jetstream.FileStorage, jetstream.DiscardNew, -1, false, 30 * day, false, 2 * time.Minute, 1},
	} {
		c := stream.CachedInfo().Config
		got := config{c.Subjects, c.Retention, c.Storage, c.Discard, c.MaxMsgsPerSubject, c.DiscardNewPerSubject, c.MaxAge, c.DenyDelete && c.DenyPurge, c.Duplicates, c.Replicas}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("stream %s (-want +got):\n%s", c.Name, diff)
		}
	}
	for name, created := range map[string]time.Time{"work": s.WorkCreated, "journal": s.JournalCreated} {
		if created.Before(before) || created.After(time.Now()) {
			t.Errorf("%s created at %s, which is not now", name, created)
		}
	}
	if s.JournalMaxAge != 8*day {
		t.Errorf("the journal's age limit: got %s, want %s", s.JournalMaxAge, 8*day)
	}
}

// The horizon hangs on when the journal was created, and fallback ids on when the work stream was.
func TestEnsure_FindsTheSameStreamsTheNextTime(t *testing.T) {
	server := natsdtest.Start(t)
	first := mustEnsure(t, server.JetStream(t))
	server.Restart(t)
	second := mustEnsure(t, server.JetStream(t))
	if !second.WorkCreated.Equal(first.WorkCreated) || !second.JournalCreated.Equal(first.JournalCreated) {
		t.Errorf("created: got %s and %s, want %s and %s", second.WorkCreated, second.JournalCreated, first.WorkCreated, first.JournalCreated)
	}
}

func TestEnsure_TakesASecondRequestForAHostForNone(t *testing.T) {
	js := natsdtest.Start(t).JetStream(t)
	mustEnsure(t, js)
	publish(t, js, "a")
	_, err := js.Publish(t.Context(), WorkSubject("default", "a"), nil)
	if errorCode(err) != 10077 {
		t.Errorf("second request for a host: got %v, want error 10077", err)
	}
}

func TestEnsure_NamesEverySettingThatWouldBreakThePromise(t *testing.T) {
	js := natsdtest.Start(t).JetStream(t)
	source := &jetstream.StreamSource{Name: "OTHER"}
	for _, tt := range []struct {
		stream, setting string
		config          func() jetstream.StreamConfig
		change          func(*jetstream.StreamConfig)
	}{
		{Work, "subjects", workConfig, func(c *jetstream.StreamConfig) { c.Subjects = []string{"mandrill.restart.default.>"} }},
		{Work, "retention", workConfig, func(c *jetstream.StreamConfig) { c.Retention = jetstream.LimitsPolicy }},
		{Work, "storage", workConfig, func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }},
		{Work, "discard", workConfig, func(c *jetstream.StreamConfig) {
			c.Discard, c.DiscardNewPerSubject = jetstream.DiscardOld, false
		}},
		{Work, "discard_new_per_subject", workConfig, func(c *jetstream.StreamConfig) { c.DiscardNewPerSubject = false }},
		{Work, "max_msgs_per_subject", workConfig, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 2 }},
		{Work, "max_age", workConfig, func(c *jetstream.StreamConfig) { c.MaxAge = 365 * 24 * time.Hour }},
		{Work, "no_ack", workConfig, func(c *jetstream.StreamConfig) { c.NoAck = true }},
		{Work, "allow_rollup_hdrs", workConfig, func(c *jetstream.StreamConfig) { c.AllowRollup = true }},
		{Work, "allow_msg_ttl", workConfig, func(c *jetstream.StreamConfig) { c.AllowMsgTTL = true }},
		{Work, "persist_mode", workConfig, func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode }},
		{Work, "subject_transform", workConfig, func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "mandrill.restart.>", Destination: "elsewhere.>"}
		}},
		{Work, "sources", workConfig, func(c *jetstream.StreamConfig) { c.Sources = []*jetstream.StreamSource{source} }},
		{Work, "mirror", workConfig, func(c *jetstream.StreamConfig) {
			*c = jetstream.StreamConfig{Name: Work, Mirror: source}
		}},

		{Journal, "subjects", journalConfig, func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "other") }},
		{Journal, "retention", journalConfig, func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy }},
		{Journal, "storage", journalConfig, func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }},
		{Journal, "discard", journalConfig, func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }},
		{Journal, "max_msgs_per_subject", journalConfig, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 100 }},
		{Journal, "max_age", journalConfig, func(c *jetstream.StreamConfig) { c.MaxAge -= time.Second }},
		{Journal, "deny_delete", journalConfig, func(c *jetstream.StreamConfig) { c.DenyDelete = false }},
		{Journal, "deny_purge", journalConfig, func(c *jetstream.StreamConfig) { c.DenyPurge = false }},
		{Journal, "allow_msg_ttl", journalConfig, func(c *jetstream.StreamConfig) { c.AllowMsgTTL = true }},
		{Journal, "persist_mode", journalConfig, func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode }},

		{Dead, "subjects", deadConfig, func(c *jetstream.StreamConfig) { c.Subjects = []string{"mandrill.dead.default.>"} }},
		{Dead, "retention", deadConfig, func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }},
		{Dead, "discard", deadConfig, func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }},
		{Dead, "max_msgs_per_subject", deadConfig, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 }},
		{Dead, "storage", deadConfig, func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }},
	} {
		t.Run(tt.stream+"/"+tt.setting, func(t *testing.T) {
			cfg := tt.config()
			tt.change(&cfg)
			createForeign(t, js, cfg)
			_, err := Ensure(t.Context(), js, testSettings)
			wantSetting(t, err, tt.stream, "", tt.setting)
			wantAbsent(t, js, tt.stream)
		})
	}
}

// A stream is sealed by a later update, never when it is created.
func TestEnsure_NamesASealedStream(t *testing.T) {
	js := natsdtest.Start(t).JetStream(t)
	cfg := mustEnsure(t, js).Dead.CachedInfo().Config
	cfg.Sealed = true
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	_, err := Ensure(t.Context(), js, testSettings)
	wantSetting(t, err, Dead, "", "sealed")
}

func TestEnsure_NamesAllThatIsWrongAtOnce(t *testing.T) {
	js := natsdtest.Start(t).JetStream(t)
	createForeign(t, js, jetstream.StreamConfig{Name: Work, Subjects: workConfig().Subjects})
	createForeign(t, js, jetstream.StreamConfig{Name: Dead, Subjects: deadConfig().Subjects})
	_, err := Ensure(t.Context(), js, testSettings)
	want := `stream "MANDRILL": retention is Limits and must be WorkQueue
stream "MANDRILL": discard is DiscardOld and must be DiscardNew
stream "MANDRILL": max_msgs_per_subject is -1 and must be 1
stream "MANDRILL": discard_new_per_subject is false and must be true
stream "MANDRILL_DEAD": discard is DiscardOld and must be DiscardNew`
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}

func TestEnsure_LeavesWhatAnOperatorMayChoose(t *testing.T) {
	js := natsdtest.Start(t).JetStream(t)
	var before []jetstream.StreamConfig
	for _, cfg := range []jetstream.StreamConfig{workConfig(), journalConfig(), deadConfig()} {
		cfg.Description = "ours"
		cfg.MaxMsgs, cfg.MaxBytes, cfg.MaxMsgSize = 1000, 1<<20, 1<<16 // with "discard new" they refuse aloud
		cfg.Duplicates = time.Minute
		cfg.Compression = jetstream.S2Compression
		switch cfg.Name {
		case Journal:
			cfg.MaxAge = 0 // it remembers for ever
		case Dead:
			cfg.MaxAge = time.Hour
		}
		before = append(before, createForeign(t, js, cfg).CachedInfo().Config)
	}
	s := mustEnsure(t, js)
	after := []jetstream.StreamConfig{s.Work.CachedInfo().Config, s.Journal.CachedInfo().Config, s.Dead.CachedInfo().Config}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("settings (-before +after):\n%s", diff)
	}
	if s.JournalMaxAge != 0 {
		t.Errorf("the journal's age limit: got %s, want none", s.JournalMaxAge)
	}
}

func TestEnsure_AnotherStreamOnOurSubjectsIsAnErrorThatNamesOurs(t *testing.T) {
	js := natsdtest.Start(t).JetStream(t)
	createForeign(t, js, jetstream.StreamConfig{Name: "ALL", Subjects: []string{"mandrill.>"}})
	_, err := Ensure(t.Context(), js, testSettings)
	const want = `cannot create stream "MANDRILL_JOURNAL" with 1 replicas: nats: API error: code=400 err_code=10065 description=subjects overlap with an existing stream`
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}

// An empty journal would say of work that was triggered that it was not.
func TestEnsure_AMissingJournalBesideWorkIsNotCreatedAgain(t *testing.T) {
	js := natsdtest.Start(t).JetStream(t)
	mustEnsure(t, js)
	publish(t, js, "a")
	mustDelete(t, js, Journal)

	if _, err := Ensure(t.Context(), js, testSettings); !errors.Is(err, ErrJournalMissing) {
		t.Errorf("got %v, want %v", err, ErrJournalMissing)
	}
	if _, err := js.Stream(t.Context(), Journal); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("the journal: got %v, want %v", err, jetstream.ErrStreamNotFound)
	}
}

func TestEnsure_AMissingJournalWithoutWorkIsCreated(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T, jetstream.JetStream){
		"work is empty":  func(t *testing.T, js jetstream.JetStream) { mustDelete(t, js, Journal) },
		"work is absent": func(t *testing.T, js jetstream.JetStream) { mustDelete(t, js, Journal); mustDelete(t, js, Work) },
	} {
		t.Run(name, func(t *testing.T) {
			js := natsdtest.Start(t).JetStream(t)
			before := mustEnsure(t, js)
			prepare(t, js)
			if after := mustEnsure(t, js); !after.JournalCreated.After(before.JournalCreated) {
				t.Errorf("journal created: got %s, want after %s", after.JournalCreated, before.JournalCreated)
			}
		})
	}
}

// A crash between two creations leaves the first of them.
func TestEnsure_CompletesWhatACrashLeft(t *testing.T) {
	js := natsdtest.Start(t).JetStream(t)
	for _, missing := range [][]string{{Work}, {Work, Dead}, {Dead}} {
		mustEnsure(t, js)
		for _, name := range missing {
			mustDelete(t, js, name)
		}
		mustEnsure(t, js)
	}
}

// The server refuses to create what it has not yet finished deleting.
func TestEnsure_CreatesAgainWhatWasJustDeleted(t *testing.T) {
	js := natsdtest.Start(t).JetStream(t)
	for range 50 {
		mustEnsure(t, js)
		deleteAll(t, js)
	}
}

// No request can be stored before there is a journal, however a start is cut short.
func TestEnsure_CreatesTheWorkStreamLast(t *testing.T) {
	var created []string
	js := interposed{natsdtest.Start(t).JetStream(t), func(op, stream string) error {
		if op == "create" {
			created = append(created, stream)
		}
		return nil
	}}
	if _, err := Ensure(t.Context(), js, Settings{Replicas: 1}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{Journal, Dead, Work}, created); diff != "" {
		t.Errorf("created (-want +got):\n%s", diff)
	}
}

// Whoever is still starting while others publish must not take that for work whose journal was lost.
func TestEnsure_AnotherWorkerMayBeginToWorkAtAnyMoment(t *testing.T) {
	for _, moment := range []string{"look " + Work, "look " + Journal, "look " + Dead, "create " + Journal, "create " + Dead, "create " + Work} {
		t.Run(moment, func(t *testing.T) {
			server := natsdtest.Start(t)
			work := sync.OnceFunc(func() {
				other := server.JetStream(t)
				mustEnsure(t, other)
				publish(t, other, "a")
			})
			js := interposed{server.JetStream(t), func(op, stream string) error {
				if op+" "+stream == moment {
					work()
				}
				return nil
			}}
			if _, err := Ensure(t.Context(), js, testSettings); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEnsure_TriesAgainWhatEndsWellInAMoment(t *testing.T) {
	for name, refusal := range map[string]error{
		"its folder is not gone yet": &jetstream.APIError{Code: 500, ErrorCode: 10049},
		"somebody else was faster":   jetstream.ErrStreamNameAlreadyInUse,
	} {
		t.Run(name, func(t *testing.T) {
			refused := false
			js := interposed{natsdtest.Start(t).JetStream(t), func(op, stream string) error {
				if op == "create" && !refused {
					refused = true
					return refusal
				}
				return nil
			}}
			if _, err := Ensure(t.Context(), js, testSettings); err != nil || !refused {
				t.Errorf("got %v, refused once: %t", err, refused)
			}
		})
	}
}

// interposed calls before, ahead of every look at a stream and every creation of one, and fails where that fails.
type interposed struct {
	jetstream.JetStream
	before func(op, stream string) error
}

func (i interposed) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	if err := i.before("look", name); err != nil {
		return nil, err
	}
	return i.JetStream.Stream(ctx, name)
}

func (i interposed) CreateStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	if err := i.before("create", cfg.Name); err != nil {
		return nil, err
	}
	return i.JetStream.CreateStream(ctx, cfg)
}

func TestEnsure_ManyAtOnceOnOneServer(t *testing.T) {
	server := natsdtest.Start(t)
	testManyAtOnce(t, server.JetStream, 10, 1)
}

func TestEnsure_OnACluster(t *testing.T) {
	cluster := natsdtest.StartCluster(t, 3)
	t.Run("ManyAtOnceMakeThreeReplicas", func(t *testing.T) { testManyAtOnce(t, cluster.JetStream, 3, 3) })
	t.Run("ConfiguredReplicasCount", func(t *testing.T) {
		js := cluster.JetStream(t)
		s, err := Ensure(t.Context(), js, Settings{Replicas: 1})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Work.CachedInfo().Config.Replicas; got != 1 {
			t.Errorf("replicas: got %d, want 1", got)
		}
	})
}

func TestEnsure_ATooSmallClusterIsAnErrorThatSaysWhatToDo(t *testing.T) {
	js := natsdtest.StartCluster(t, 2).JetStream(t)
	_, err := Ensure(t.Context(), js, Settings{})
	if errorCode(err) != codeNoPeers {
		t.Errorf("got %v, want error %d", err, codeNoPeers)
	}
	if _, err := Ensure(t.Context(), js, Settings{Replicas: 2}); err != nil {
		t.Errorf("with two replicas: %v", err)
	}
}

func testManyAtOnce(t *testing.T, connect func(testing.TB) jetstream.JetStream, rounds, replicas int) {
	const workers = 5
	var conns [workers]jetstream.JetStream
	for i := range conns {
		conns[i] = connect(t)
	}
	for range rounds {
		var streams [workers]Streams
		var g errgroup.Group
		for i, js := range conns {
			g.Go(func() (err error) {
				if streams[i], err = Ensure(t.Context(), js, testSettings); err != nil {
					return err
				}
				// Those that are still starting must not take this for work whose journal was lost.
				// The client tries again where it had no answer, so the message needs an id to be known by.
				host := fmt.Sprintf("h%d", i)
				_, err = js.Publish(t.Context(), WorkSubject("default", restart.Host(host)), nil, jetstream.WithMsgID(host))
				if err != nil {
					return err
				}
				_, err = EnsureConsumer(t.Context(), js, "default", testSettings)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		for i, s := range streams {
			if !s.JournalCreated.Equal(streams[0].JournalCreated) || !s.WorkCreated.Equal(streams[0].WorkCreated) {
				t.Errorf("worker %d has other streams than worker 0", i)
			}
			for _, s := range []jetstream.Stream{s.Work, s.Journal, s.Dead} {
				if got := s.CachedInfo().Config.Replicas; got != replicas {
					t.Errorf("stream %s: got %d replicas, want %d", s.CachedInfo().Config.Name, got, replicas)
				}
			}
		}
		deleteAll(t, conns[0])
	}
}

func TestEnsureConsumer_CreatesWhatIsAbsent(t *testing.T) {
	js := natsdtest.Start(t).JetStream(t)
	mustEnsure(t, js)
	c, err := EnsureConsumer(t.Context(), js, "cattle", testSettings)
	if err != nil {
		t.Fatal(err)
	}
	got := c.CachedInfo().Config
	want := jetstream.ConsumerConfig{
		Durable:       "mandrill-cattle",
		FilterSubject: "mandrill.restart.cattle.>",
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       30 * time.Second,
		MaxDeliver:    -1,
		MaxAckPending: 20,
	}
	if diff := cmp.Diff(want, jetstream.ConsumerConfig{
		Durable: got.Durable, FilterSubject: got.FilterSubject, FilterSubjects: got.FilterSubjects, DeliverPolicy: got.DeliverPolicy,
		AckPolicy: got.AckPolicy, AckWait: got.AckWait, MaxDeliver: got.MaxDeliver, MaxAckPending: got.MaxAckPending, BackOff: got.BackOff,
	}); diff != "" {
		t.Errorf("consumer (-want +got):\n%s", diff)
	}
}

// A worker with an older configuration must not take the fleet's budget back, nor its lease.
func TestEnsureConsumer_NeverChangesWhatIsPresent(t *testing.T) {
	js := natsdtest.Start(t).JetStream(t)
	mustEnsure(t, js)
	first, err := EnsureConsumer(t.Context(), js, "default", testSettings)
	if err != nil {
		t.Fatal(err)
	}
	second, err := EnsureConsumer(t.Context(), js, "default", Settings{AckWait: time.Second, Budget: 1})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first.CachedInfo().Config, second.CachedInfo().Config); diff != "" {
		t.Errorf("consumer (-first +second):\n%s", diff)
	}
}

func TestEnsureConsumer_NamesEverySettingThatWouldBreakThePromise(t *testing.T) {
	js := natsdtest.Start(t).JetStream(t)
	s := mustEnsure(t, js)
	for setting, change := range map[string]func(*jetstream.ConsumerConfig){
		"filter_subject": func(c *jetstream.ConsumerConfig) { c.FilterSubject = WorkFilter("other") },
		"max_deliver":    func(c *jetstream.ConsumerConfig) { c.MaxDeliver = 5 },
		"backoff":        func(c *jetstream.ConsumerConfig) { c.BackOff = []time.Duration{time.Second} },
		"headers_only":   func(c *jetstream.ConsumerConfig) { c.HeadersOnly = true },
	} {
		t.Run(setting, func(t *testing.T) {
			cfg := consumerConfig("default", testSettings)
			change(&cfg)
			if _, err := s.Work.CreateConsumer(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			_, err := EnsureConsumer(t.Context(), js, "default", testSettings)
			wantSetting(t, err, Work, "mandrill-default", setting)
			if err := s.Work.DeleteConsumer(t.Context(), cfg.Durable); err != nil {
				t.Fatal(err)
			}
		})
	}
	// The server itself refuses any other policy on a work queue today; the promise does not hang on that.
	got := consumerConfig("default", testSettings)
	got.AckPolicy = jetstream.AckNonePolicy
	wantSetting(t, checkConsumer(Work, got, consumerConfig("default", testSettings)), Work, "mandrill-default", "ack_policy")
}

func TestEnsureConsumer_RefusesToLeaveLeaseOrBudgetToTheServer(t *testing.T) {
	js := natsdtest.Start(t).JetStream(t)
	mustEnsure(t, js)
	for _, s := range []Settings{{Budget: 1}, {AckWait: time.Second}, {AckWait: -1, Budget: 1}} {
		if _, err := EnsureConsumer(t.Context(), js, "default", s); err == nil {
			t.Errorf("%+v: got no error", s)
		}
	}
}

func TestEnsureConsumer_WithoutItsStreamSaysSo(t *testing.T) {
	js := natsdtest.Start(t).JetStream(t)
	if _, err := EnsureConsumer(t.Context(), js, "default", testSettings); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("got %v, want %v", err, jetstream.ErrStreamNotFound)
	}
}

func mustEnsure(t *testing.T, js jetstream.JetStream) Streams {
	t.Helper()
	s, err := Ensure(t.Context(), js, testSettings)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func createForeign(t *testing.T, js jetstream.JetStream, cfg jetstream.StreamConfig) jetstream.Stream {
	t.Helper()
	s, err := Retry(t.Context(), func(ctx context.Context) (jetstream.Stream, error) { return js.CreateStream(ctx, cfg) })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func publish(t *testing.T, js jetstream.JetStream, host restart.Host) {
	t.Helper()
	if _, err := js.Publish(t.Context(), WorkSubject("default", host), nil); err != nil {
		t.Fatal(err)
	}
}

func mustDelete(t *testing.T, js jetstream.JetStream, stream string) {
	t.Helper()
	if err := js.DeleteStream(t.Context(), stream); err != nil {
		t.Fatal(err)
	}
}

func deleteAll(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	for _, name := range []string{Work, Journal, Dead} {
		mustDelete(t, js, name)
	}
}

// wantAbsent checks that nothing but the foreign stream was created, and removes that one.
func wantAbsent(t *testing.T, js jetstream.JetStream, foreign string) {
	t.Helper()
	mustDelete(t, js, foreign)
	for _, name := range []string{Work, Journal, Dead} {
		if _, err := js.Stream(t.Context(), name); !errors.Is(err, jetstream.ErrStreamNotFound) {
			t.Errorf("stream %s: got %v, want %v", name, err, jetstream.ErrStreamNotFound)
		}
	}
}

func wantSetting(t *testing.T, err error, stream, consumer, setting string) {
	t.Helper()
	var foreign []*SettingError
	collect(err, &foreign)
	for _, e := range foreign {
		if e.Stream == stream && e.Consumer == consumer && e.Setting == setting {
			return
		}
	}
	t.Errorf("got %v, want an error about %s of stream %q, consumer %q", err, setting, stream, consumer)
}

func collect(err error, into *[]*SettingError) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			collect(err, into)
		}
		return
	}
	var e *SettingError
	if errors.As(err, &e) {
		*into = append(*into, e)
	}
}
