package notify

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/callout"
)

// What Config's zero values mean.
const (
	DefaultQueue      = 256
	DefaultEvery      = time.Minute
	DefaultTimeout    = 10 * time.Second
	DefaultGrace      = 5 * time.Second
	DefaultRetryBase  = time.Second
	DefaultRetryCap   = time.Minute
	DefaultRetryTotal = 15 * time.Minute
)

// Config says who is told, and of what. A negative number or duration is an error.
type Config struct {
	// URL is a full URL of http or https, to which a message is posted. It is a secret.
	URL string

	// Secret is the key of the messages' signatures. If it is empty, they are not signed.
	Secret string

	// Template is the body of a message: a JSON document in which {{name}} stands for a value of a Notice, which brings
	// its own quotes. There are kind, group, host, id, cause, by, why, detail, at, until (null: none), more, text, and
	// slack_text, which is the text without what Slack would take for a link or a mention. If it is empty, the body is
	// {"text":{{slack_text}}}.
	Template string

	// On is which kinds are told. If it is empty, all are.
	On []Kind

	// Queue is how many messages may wait at once; notices of one kind and group make one message. Once it is full, what
	// finds no place is dropped and counted. Zero means DefaultQueue.
	Queue int

	// Every is the interval in which at most one message is sent of one kind and group. Zero means DefaultEvery.
	Every time.Duration

	// Timeout bounds one attempt to send a message. Zero means DefaultTimeout.
	Timeout time.Duration

	// Grace bounds the time in which Run, when it is to end, tries to send what waits. Zero means DefaultGrace.
	Grace time.Duration

	Retry  Retry
	Logger zerolog.Logger
}

// Retry says how a message is sent again that was not taken. Zero values mean the defaults.
type Retry struct {
	Base  time.Duration // about how long the first wait is; each next one is twice as long
	Cap   time.Duration // about how long a wait may become, unless the server asks for more
	Total time.Duration // after which no attempt is begun
}

// complete returns the configuration with its defaults filled in.
func (c Config) complete() Config {
	fill(&c.Queue, DefaultQueue)
	fill(&c.Every, DefaultEvery)
	fill(&c.Timeout, DefaultTimeout)
	fill(&c.Grace, DefaultGrace)
	fill(&c.Retry.Base, DefaultRetryBase)
	fill(&c.Retry.Cap, DefaultRetryCap)
	fill(&c.Retry.Total, DefaultRetryTotal)
	if len(c.On) == 0 {
		c.On = Kinds
	}
	return c
}

func fill[T int | time.Duration](value *T, standard T) {
	if *value == 0 {
		*value = standard
	}
}

// validate checks a completed configuration. Its errors do not quote the URL.
func (c Config) validate() error {
	if err := checkURL(c.URL); err != nil {
		return fmt.Errorf("url: %w", err)
	}
	for _, kind := range c.On {
		if !slices.Contains(Kinds, kind) {
			return fmt.Errorf("on: %q is none of %q", kind, Kinds)
		}
	}
	if c.Queue < 0 {
		return fmt.Errorf("queue: %d is negative", c.Queue)
	}
	for _, d := range []struct {
		key   string
		value time.Duration
	}{
		{"every", c.Every},
		{"timeout", c.Timeout},
		{"grace", c.Grace},
		{"retry.base", c.Retry.Base},
		{"retry.cap", c.Retry.Cap},
		{"retry.total", c.Retry.Total},
	} {
		if d.value < 0 {
			return fmt.Errorf("%s: %s is negative", d.key, d.value)
		}
	}
	if c.Retry.Base > c.Retry.Cap {
		return fmt.Errorf("retry.base: %s is more than retry.cap, %s", c.Retry.Base, c.Retry.Cap)
	}
	return nil
}

func checkURL(text string) error {
	u, err := callout.ParseURL(text)
	switch {
	case err != nil:
		return err
	case u.User != nil:
		return errors.New("holds a user or a password, which would not be sent")
	case strings.Contains(text, "#"):
		return errors.New("has a fragment, which would not be sent")
	}
	return nil
}
