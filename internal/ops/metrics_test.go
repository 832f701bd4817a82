package ops_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/ops"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	everyStep  = []ops.Step{ops.QueueWait, ops.Save, ops.Restart, ops.Verify, ops.Finish, ops.AckLag, ops.EndToEnd}
	everyEvent = []ops.Event{
		ops.Delivery, ops.Redelivery, ops.Trigger, ops.LeaseExtension, ops.LeaseLost, ops.DeadLetter, ops.DuplicateSuppressed,
		ops.LateAck, ops.Takeover, ops.TriggerFenced,
	}
	everyPhase = []ops.Phase{
		ops.Outside, ops.InGate, ops.InSlot, ops.InRestart, ops.InVerify, ops.InSave, ops.InFinish, ops.InSettling,
	}
	everyCause = []ops.Cause{ops.ByHand, ops.ByWindow, ops.ByBreaker, ops.ByMonitor, ops.ByOther}
)

type driver struct{ inUse, strays int }

func (d *driver) InUse() int  { return d.inUse }
func (d *driver) Strays() int { return d.strays }

// everything returns a registry in which every metric that there is has a series.
func everything(t *testing.T) (*prometheus.Registry, *ops.Metrics) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	m := ops.NewMetrics(reg)
	if _, err := ops.New(ops.Config{Listen: ":0", Registry: reg}); err != nil {
		t.Fatal(err)
	}
	use(m, "web", "cattle-a1b2.example.net")
	m.Group("web").Driver(&driver{inUse: 3, strays: 1})
	return reg, m
}

// use does all that can be done with metrics for a group, as if on behalf of a host.
func use(m *ops.Metrics, group restart.Group, host restart.Host) {
	g := m.Group(group)
	for _, s := range everyStep {
		g.Took(s, time.Second)
	}
	for _, e := range everyEvent {
		g.Count(e, 1)
	}
	for i, p := range everyPhase {
		g.Move(p, everyPhase[(i+1)%len(everyPhase)])
	}
	o := restart.Outcome{Host: host, Group: group, Kind: restart.Restarted, Reason: restart.ReasonVerified}
	g.Ended(o.Kind, o.Reason)
	// What another version, or a bug, might have written.
	g.Ended(restart.Kind(host), restart.Reason(host))
	g.Ended(restart.Dead, restart.Reason(host))
	g.Queued(7)
	g.Budget(20)
	g.Paused(ops.ByBreaker)
	m.Monitor("shop").Checked(ops.Reading{
		Good: true, Took: time.Second, HTTP: &ops.HTTPReading{Code: 200, Bytes: 5000, TLSExpiry: time.Unix(1_900_000_000, 0)},
	})
	m.Lag(time.Millisecond)
	m.Overloaded(true)
	m.Version("1.2.3")
}

func seriesOf(t *testing.T, reg prometheus.Gatherer) int {
	t.Helper()
	n, err := testutil.GatherAndCount(reg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A label with a host's name in it costs a Prometheus server its memory, some weeks after everybody has forgotten it.
func TestMetrics_AHundredThousandHostsLeaveTheNumberOfSeriesUnchanged(t *testing.T) {
	reg, m := everything(t)
	before := seriesOf(t, reg)
	for i := range 100_000 {
		use(m, "web", restart.Host(fmt.Sprintf("cattle-%06d.example.net", i)))
	}
	if after := seriesOf(t, reg); after != before {
		t.Errorf("got %d series after 100,000 hosts, want %d as before", after, before)
	}
}

func TestMetrics_LabelsAreOfAClosedSet(t *testing.T) {
	reg, _ := everything(t)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	allowed := []string{"group", "outcome", "reason", "phase", "cause", "monitor", "version"}
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), "mandrill_") {
			continue
		}
		for _, series := range family.GetMetric() {
			for _, label := range series.GetLabel() {
				if !slices.Contains(allowed, label.GetName()) {
					t.Errorf("%s has the label %s, want only %v", family.GetName(), label.GetName(), allowed)
				}
			}
		}
	}
}

func TestMetrics_TwoInstancesInOneProcessDoNotClash(t *testing.T) {
	reg1, m1 := everything(t)
	reg2, m2 := everything(t)
	m1.Group("web").Count(ops.Takeover, 5)
	m2.Group("web").Count(ops.Takeover, 40)
	for reg, want := range map[*prometheus.Registry]int{reg1: 6, reg2: 41} {
		if line := fmt.Sprintf(`mandrill_takeovers_total{group="web"} %d`, want); !slices.Contains(scrape(t, reg), line) {
			t.Errorf("want the line %s", line)
		}
	}
}

func TestMetrics_WithoutARegistryTheyAreSilent(t *testing.T) {
	m := ops.NewMetrics(nil)
	use(m, "web", "cattle-a1b2.example.net")
	m.Group("web").Driver(&driver{})
}

// scrape returns the lines that Prometheus would read of Mandrill's own metrics.
func scrape(t *testing.T, reg *prometheus.Registry) []string {
	t.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("got %d: %s", w.Code, w.Body)
	}
	return slices.DeleteFunc(strings.Split(w.Body.String(), "\n"), func(line string) bool {
		return !strings.HasPrefix(line, "mandrill_")
	})
}

func ofHistogram(line string) bool {
	name, _, _ := strings.Cut(line, "{")
	name, _, _ = strings.Cut(name, " ")
	return strings.HasSuffix(name, "_bucket") || strings.HasSuffix(name, "_seconds_sum") || strings.HasSuffix(name, "_seconds_count")
}

// A caller that is given the wrong counter would never know.
func TestMetrics_EachMethodMovesWhatItIsNamedAfter(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := ops.NewMetrics(reg)
	g := m.Group("web")
	for i, e := range everyEvent {
		g.Count(e, i+1)
	}
	for i, p := range everyPhase {
		for range i {
			g.Move(ops.Outside, p)
		}
	}
	g.Move(ops.InVerify, ops.InFinish)
	g.Move(ops.InSettling, ops.Outside)
	g.Ended(restart.Dead, restart.ReasonNotReady)
	g.Ended(restart.Dead, restart.ReasonNotReady)
	g.Ended(restart.Dead, "made_up")
	g.Ended("made_up", restart.ReasonNotReady)
	g.Queued(7)
	g.Budget(20)
	g.Paused(everyCause...)
	g.Paused(ops.ByWindow, ops.ByMonitor)
	d := &driver{}
	g.Driver(d)
	d.inUse, d.strays = 3, 2
	m.Lag(250 * time.Millisecond)
	m.Overloaded(true)
	m.Version("1.2.3")
	m.Monitor("shop").Checked(ops.Reading{
		Good: true, Took: 1500 * time.Millisecond, HTTP: &ops.HTTPReading{Code: 503, Bytes: 5000, TLSExpiry: time.Unix(1_900_000_000, 0)},
	})
	m.Monitor("port").Checked(ops.Reading{Took: time.Second})

	want := `
mandrill_budget{group="web"} 20
mandrill_build_info{version="1.2.3"} 1
mandrill_dead_letters_total{group="web"} 6
mandrill_deliveries_total{group="web"} 1
mandrill_driver_slots_in_use{group="web"} 3
mandrill_driver_strays{group="web"} 2
mandrill_duplicates_suppressed_total{group="web"} 7
mandrill_group_paused{cause="breaker",group="web"} 0
mandrill_group_paused{cause="manual",group="web"} 0
mandrill_group_paused{cause="monitor",group="web"} 1
mandrill_group_paused{cause="other",group="web"} 0
mandrill_group_paused{cause="window",group="web"} 1
mandrill_in_flight{group="web",phase="finish"} 7
mandrill_in_flight{group="web",phase="gate"} 1
mandrill_in_flight{group="web",phase="restart"} 3
mandrill_in_flight{group="web",phase="save"} 5
mandrill_in_flight{group="web",phase="settle"} 6
mandrill_in_flight{group="web",phase="slot"} 2
mandrill_in_flight{group="web",phase="verify"} 3
mandrill_lag_seconds 0.25
mandrill_late_acks_total{group="web"} 8
mandrill_lease_extensions_total{group="web"} 4
mandrill_leases_lost_total{group="web"} 5
mandrill_monitor_bytes{monitor="shop"} 5000
mandrill_monitor_http_code{monitor="shop"} 503
mandrill_monitor_seconds{monitor="port"} 1
mandrill_monitor_seconds{monitor="shop"} 1.5
mandrill_monitor_tls_expiry_seconds{monitor="shop"} 1.9e+09
mandrill_monitor_up{monitor="port"} 0
mandrill_monitor_up{monitor="shop"} 1
mandrill_outcomes_total{group="web",outcome="cancelled",reason="aborted"} 0
mandrill_outcomes_total{group="web",outcome="cancelled",reason="by_hand"} 0
mandrill_outcomes_total{group="web",outcome="dead",reason="attempts"} 0
mandrill_outcomes_total{group="web",outcome="dead",reason="id_reused"} 0
mandrill_outcomes_total{group="web",outcome="dead",reason="journal_horizon"} 0
mandrill_outcomes_total{group="web",outcome="dead",reason="malformed"} 0
mandrill_outcomes_total{group="web",outcome="dead",reason="not_ready"} 2
mandrill_outcomes_total{group="web",outcome="dead",reason="other"} 1
mandrill_outcomes_total{group="web",outcome="dead",reason="permanent"} 0
mandrill_outcomes_total{group="web",outcome="dead",reason="poison"} 0
mandrill_outcomes_total{group="web",outcome="dead",reason="unconfirmed"} 0
mandrill_outcomes_total{group="web",outcome="expired",reason="not_after"} 0
mandrill_outcomes_total{group="web",outcome="other",reason="other"} 1
mandrill_outcomes_total{group="web",outcome="restarted",reason="changed_elsewhere"} 0
mandrill_outcomes_total{group="web",outcome="restarted",reason="verified"} 0
mandrill_outcomes_total{group="web",outcome="skipped",reason="denied"} 0
mandrill_outcomes_total{group="web",outcome="skipped",reason="dry_run"} 0
mandrill_outcomes_total{group="web",outcome="skipped",reason="min_uptime"} 0
mandrill_outcomes_total{group="web",outcome="skipped",reason="not_listed"} 0
mandrill_outcomes_total{group="web",outcome="skipped",reason="self"} 0
mandrill_outcomes_total{group="web",outcome="unknown",reason="repaired"} 0
mandrill_overloaded 1
mandrill_queued{group="web"} 7
mandrill_redeliveries_total{group="web"} 2
mandrill_takeovers_total{group="web"} 9
mandrill_triggers_fenced_total{group="web"} 10
mandrill_triggers_total{group="web"} 3
`
	if diff := cmp.Diff(strings.TrimSpace(want), strings.Join(slices.DeleteFunc(scrape(t, reg), ofHistogram), "\n")); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

func TestMetrics_EachStepIsMeasuredUnderItsOwnName(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := ops.NewMetrics(reg)
	for i, s := range everyStep {
		m.Group("web").Took(s, time.Duration(i+1)*time.Second)
		// Two machines' clocks may say that something ended before it began.
		m.Group("web").Took(s, -time.Hour)
	}
	m.Lag(2 * time.Second)
	m.Lag(6 * time.Second)
	want := `
mandrill_ack_lag_seconds_count{group="web"} 2
mandrill_ack_lag_seconds_sum{group="web"} 6
mandrill_end_to_end_seconds_count{group="web"} 2
mandrill_end_to_end_seconds_sum{group="web"} 7
mandrill_finish_seconds_count{group="web"} 2
mandrill_finish_seconds_sum{group="web"} 5
mandrill_lag_readings_seconds_count 2
mandrill_lag_readings_seconds_sum 8
mandrill_queue_wait_seconds_count{group="web"} 2
mandrill_queue_wait_seconds_sum{group="web"} 1
mandrill_restart_seconds_count{group="web"} 2
mandrill_restart_seconds_sum{group="web"} 3
mandrill_save_seconds_count{group="web"} 2
mandrill_save_seconds_sum{group="web"} 2
mandrill_verify_seconds_count{group="web"} 2
mandrill_verify_seconds_sum{group="web"} 4
`
	got := slices.DeleteFunc(scrape(t, reg), func(line string) bool {
		return !ofHistogram(line) || strings.Contains(line, "_bucket{")
	})
	slices.Sort(got)
	if diff := cmp.Diff(strings.TrimSpace(want), strings.Join(got, "\n")); diff != "" {
		t.Errorf("histograms (-want +got):\n%s", diff)
	}
}

// The first dead letter of a group must be a step up from zero, or no alert sees it.
func TestMetrics_AGroupsSeriesAreThereBeforeAnythingHappens(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := ops.NewMetrics(reg)
	m.Group("web")
	before := seriesOf(t, reg)
	g := m.Group("web")
	for _, e := range everyEvent {
		g.Count(e, 1)
	}
	for _, s := range everyStep {
		g.Took(s, time.Second)
	}
	for _, p := range everyPhase {
		g.Move(ops.Outside, p)
	}
	g.Paused(everyCause...)
	g.Ended(restart.Dead, restart.ReasonNotReady)
	if after := seriesOf(t, reg); after != before {
		t.Errorf("got %d series after the first of everything, want %d as before", after, before)
	}
}

// A reason that the vocabulary has and the metrics do not know would be counted as "other", silently.
func TestMetrics_KnowEveryKindAndReasonOfTheVocabulary(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../restart/outcome.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	constants := map[string][]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		kind, named := spec.Type.(*ast.Ident)
		value, literal := spec.Values[0].(*ast.BasicLit)
		if named && literal {
			text, err := strconv.Unquote(value.Value)
			if err != nil {
				t.Fatal(err)
			}
			constants[kind.Name] = append(constants[kind.Name], text)
		}
		return true
	})
	if len(constants["Kind"]) != len(restart.Kinds) || len(constants["Reason"]) < 10 {
		t.Fatalf("the vocabulary was not found: got %v", constants)
	}
	reg := prometheus.NewPedanticRegistry()
	ops.NewMetrics(reg).Group("web")
	lines := strings.Join(scrape(t, reg), "\n")
	for label, typ := range map[string]string{"outcome": "Kind", "reason": "Reason"} {
		for _, value := range constants[typ] {
			if !strings.Contains(lines, fmt.Sprintf("%s=%q", label, value)) {
				t.Errorf("the %s %s of the vocabulary has no series", label, value)
			}
		}
	}
}

// The end of a certificate that was replaced, or is no longer shown, would go on warning.
func TestMonitor_ForgetsTheCertificateThatItNoLongerSees(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	shop := ops.NewMetrics(reg).Monitor("shop")
	const series = `mandrill_monitor_tls_expiry_seconds{monitor="shop"} 1.9e+09`
	reading := ops.Reading{Good: true, HTTP: &ops.HTTPReading{Code: 200, TLSExpiry: time.Unix(1_900_000_000, 0)}}
	shop.Checked(reading)
	if lines := scrape(t, reg); !slices.Contains(lines, series) {
		t.Errorf("got %v, want %s", lines, series)
	}
	reading.HTTP.TLSExpiry = time.Time{}
	shop.Checked(reading)
	if lines := strings.Join(scrape(t, reg), "\n"); strings.Contains(lines, "tls_expiry") {
		t.Errorf("got %s, want no certificate", lines)
	}
}

func TestMetrics_AreCalledFromManyGoroutinesAtOnce(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := ops.NewMetrics(reg)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				use(m, "web", "cattle-a1b2.example.net")
			}
		})
	}
	for range 20 {
		seriesOf(t, reg)
	}
	all.Wait()
	for _, line := range []string{
		`mandrill_takeovers_total{group="web"} 1600`, `mandrill_in_flight{group="web",phase="verify"} 0`,
		`mandrill_outcomes_total{group="web",outcome="restarted",reason="verified"} 1600`,
	} {
		if !slices.Contains(scrape(t, reg), line) {
			t.Errorf("want the line %s", line)
		}
	}
}

func TestMetrics_ExportTheProcessAndGosSchedulerToo(t *testing.T) {
	reg, _ := everything(t)
	for _, name := range []string{"go_goroutines", "go_sched_latencies_seconds", "process_resident_memory_bytes"} {
		if n, err := testutil.GatherAndCount(reg, name); err != nil || n != 1 {
			t.Errorf("%s: got %d series, %v, want 1", name, n, err)
		}
	}
}

func TestMetrics_ArePrometheusStyle(t *testing.T) {
	reg, _ := everything(t)
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// promtool returns the command, which a test must not go without where everything is to be tested.
func promtool(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("MANDRILL_TEST_ALL") != "" {
			t.Fatalf("promtool, of the package prometheus, is needed: %v", err)
		}
		t.Skipf("promtool is not here: %v", err)
	}
	return exec.CommandContext(t.Context(), path, args...)
}
