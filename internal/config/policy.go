package config

import (
	"errors"
	"strconv"
	"strings"

	"github.com/mayhem-mandrill/mandrill/internal/policy"
)

// policed is a list whose items the policy understands.
func policed(key string, parse func(string) error, field func(*Config) *[]string, doc string) setting {
	return checked(names(key, field, doc), parse)
}

func parseHours(text string) error {
	_, err := policy.ParseWindows([]string{text}, nil, "UTC")
	return unquoted(err, text)
}

func parseDates(text string) error {
	_, err := policy.ParseWindows(nil, []string{text}, "UTC")
	return unquoted(err, text)
}

func parseZone(text string) error {
	_, err := policy.ParseWindows([]string{"daily 00:00-24:00"}, nil, text)
	return unquoted(err, text)
}

func parsePattern(text string) error {
	_, err := policy.ParsePatterns([]string{text})
	return unquoted(err, text)
}

// unquoted leaves out the text that the policy's error names first, because ours names it too.
func unquoted(err error, text string) error {
	if err == nil {
		return nil
	}
	return errors.New(strings.TrimPrefix(err.Error(), strconv.Quote(text)+": "))
}
