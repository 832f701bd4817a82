package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/notify"
)

// Notify says who is told what happens, and how. What its fields mean is for notify.Config to say.
type Notify struct {
	URL                   Secret // empty: nobody
	Secret                Secret
	Template              Secret // it may hold a key of the service that is told
	On                    []notify.Kind
	Queue                 int
	Every, Timeout, Grace time.Duration
	RetryBase, RetryCap   time.Duration
	RetryTotal            time.Duration
}

func notifyURL(key string, field func(*Config) *Secret, doc string) setting {
	s := checked(secret(key, field, doc), func(text string) error {
		if text == "" {
			return nil
		}
		_, err := notify.New(notify.Config{URL: text})
		return withoutKey(err)
	})
	s.kind = "URL"
	return s
}

// template is a text of any number of lines. Its errors quote a word that stands in {{ }}, without which nobody could
// mend it, and nothing else: there a service's key has no place.
func template(key string, field func(*Config) *Secret, doc string) setting {
	return setting{
		key: key, kind: "text", doc: doc, hidden: true,
		set: func(c *Config, text string) error {
			*field(c) = Secret(text)
			if text == "" {
				return nil
			}
			_, err := notify.New(notify.Config{URL: anywhere, Template: text})
			if err == nil {
				return nil
			}
			const brief = "is not a template that gives JSON"
			return &quotingError{brief, fmt.Sprintf("%s: %s", brief, strings.Join(strings.Fields(withoutKey(err).Error()), " "))}
		},
		get: func(c *Config) string { return field(c).String() },
	}
}

func kinds(key string, field func(*Config) *[]notify.Kind, doc string) setting {
	known := strings.Join(texts(notify.Kinds), ", ")
	return setting{
		key: key, kind: "list", doc: doc, bounds: known,
		reset: func(c *Config) { *field(c) = nil },
		set: func(c *Config, text string) error {
			if !slices.Contains(notify.Kinds, notify.Kind(text)) {
				return errors.New("is none of " + known)
			}
			*field(c) = append(*field(c), notify.Kind(text))
			return nil
		},
		get: func(c *Config) string { return formatTexts(*field(c)) },
	}
}
