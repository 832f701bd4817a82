package ops

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

const (
	namespace = "mandrill"

	// other stands for a value that is not of the vocabulary: a newer worker's outcome, for instance.
	other = "other"

	hour = 3600 // seconds
)

// Each range of buckets ends where the longest wait that its settings allow does, roughly.
var (
	// writes are answered within milliseconds, and wait for a database that is away.
	writeBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 30, 120, 600, hour}
	// hosts are a simulation's milliseconds, a container's seconds, or a machine's minutes.
	hostBuckets = []float64{.005, .025, .1, .25, .5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, hour}
	// waits are nothing at all, or until a window opens, or for as long as a request may wait.
	waitBuckets = []float64{.005, .025, .1, .5, 1, 5, 15, 60, 300, 900, hour, 4 * hour, 12 * hour, 24 * hour, 72 * hour, 168 * hour}
	// lags are a scheduler's: microseconds when idle, ten milliseconds for each goroutine that must be waited for.
	lagBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}
)

// Metrics are those of one process. Its methods are called from many goroutines at once.
type Metrics struct {
	with promauto.Factory

	mu     sync.Mutex
	groups map[restart.Group]*Group

	steps       [stepCount]*prometheus.HistogramVec
	events      [eventCount]*prometheus.CounterVec
	outcomes    *prometheus.CounterVec
	inFlight    *prometheus.GaugeVec
	queued      *prometheus.GaugeVec
	budget      *prometheus.GaugeVec
	paused      *prometheus.GaugeVec
	lag         prometheus.Gauge
	lagReadings prometheus.Histogram
	overloaded  prometheus.Gauge
	build       *prometheus.GaugeVec
	monitors    monitorVecs
}

// NewMetrics returns metrics that reg exports, together with those of the process and of Go's runtime. A nil reg exports
// nothing. It panics if reg has such metrics already: a registry is one instance's.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	if reg != nil {
		reg.MustRegister(
			// The scheduler's own latency, to be compared with the lag that is measured here.
			collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsScheduler)),
			collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		)
	}
	with := promauto.With(reg)
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return with.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels)
	}
	m := &Metrics{
		with:   with,
		groups: map[restart.Group]*Group{},
		outcomes: with.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "outcomes_total", Help: "Requests that ended, by how and why.",
		}, []string{"group", "outcome", "reason"}),
		inFlight: gauge("in_flight", "Messages that this worker holds, by what is being done for them.", "group", "phase"),
		queued:   gauge("queued", "Messages of the group that no worker holds.", "group"),
		budget:   gauge("budget", "Messages of the group that all workers together may hold.", "group"),
		paused:   gauge("group_paused", "Whether the group is held back, by cause.", "group", "cause"),
		lag: with.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "lag_seconds", Help: "How late this process got to run at the last reading.",
		}),
		lagReadings: with.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "lag_readings_seconds", Help: "How late this process got to run, all readings.", Buckets: lagBuckets,
		}),
		overloaded: with.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "overloaded", Help: "Whether the lag is above its threshold, so that less is taken in.",
		}),
		build: gauge("build_info", "The version that runs, which is the label; the value is 1.", "version"),
		monitors: monitorVecs{
			up:      gauge("monitor_up", "Whether the monitor is good: 0 too when it could not run.", "monitor"),
			seconds: gauge("monitor_seconds", "How long the monitor's last check took.", "monitor"),
			code:    gauge("monitor_http_code", "Status code of the last answer; 0 without an answer.", "monitor"),
			bytes:   gauge("monitor_bytes", "Bytes in the body of the last answer.", "monitor"),
			expiry:  gauge("monitor_tls_expiry_seconds", "When the server's certificate ends, in seconds since 1970.", "monitor"),
		},
	}
	for i, s := range steps {
		m.steps[i] = with.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: s.name + "_seconds", Help: s.help, Buckets: s.buckets,
		}, []string{"group"})
	}
	for i, e := range events {
		m.events[i] = with.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: e.name + "_total", Help: e.help,
		}, []string{"group"})
	}
	return m
}

// Version says which version runs. It is called once.
func (m *Metrics) Version(version string) { m.build.WithLabelValues(version).Set(1) }

// Lag takes a reading of the lag.
func (m *Metrics) Lag(lag time.Duration) {
	m.lag.Set(lag.Seconds())
	m.lagReadings.Observe(lag.Seconds())
}

// Overloaded says whether the process is overloaded.
func (m *Metrics) Overloaded(overloaded bool) { m.overloaded.Set(oneIf(overloaded)) }

type monitorVecs struct{ up, seconds, code, bytes, expiry *prometheus.GaugeVec }

// A Monitor is the metrics of one monitor.
type Monitor struct {
	vecs monitorVecs
	name string
}

// Monitor returns the metrics of a monitor of the configuration.
func (m *Metrics) Monitor(name string) *Monitor { return &Monitor{m.monitors, name} }

// A Reading is what one check of a monitor saw.
type Reading struct {
	Good bool // what the monitor is, after this check
	Took time.Duration
	HTTP *HTTPReading // nil where HTTP is not what is checked
}

// An HTTPReading is what a check over HTTP saw.
type HTTPReading struct {
	Code      int       // 0: no answer
	Bytes     int64     // in the body
	TLSExpiry time.Time // of the server's certificate; zero: none was shown
}

// Checked takes the reading of a check. It is called for one check of a monitor after the other.
func (m *Monitor) Checked(r Reading) {
	m.vecs.up.WithLabelValues(m.name).Set(oneIf(r.Good))
	m.vecs.seconds.WithLabelValues(m.name).Set(r.Took.Seconds())
	if r.HTTP == nil {
		return
	}
	m.vecs.code.WithLabelValues(m.name).Set(float64(r.HTTP.Code))
	m.vecs.bytes.WithLabelValues(m.name).Set(float64(r.HTTP.Bytes))
	if r.HTTP.TLSExpiry.IsZero() {
		m.vecs.expiry.DeleteLabelValues(m.name) // an old certificate's end would be taken for this server's
	} else {
		m.vecs.expiry.WithLabelValues(m.name).Set(float64(r.HTTP.TLSExpiry.Unix()))
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
