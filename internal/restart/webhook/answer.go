package webhook

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/callout"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// maxRetryAfter bounds how long a server may put a request off at once.
const maxRetryAfter = time.Hour

// parseState returns what a probe's answer says.
func parseState(body []byte) (restart.State, error) {
	answer := struct {
		Epoch restart.Epoch `json:"epoch"`
		Since time.Time     `json:"since"`
		Ready bool          `json:"ready"`
	}{Ready: true}
	if err := json.Unmarshal(body, &answer); err != nil {
		return restart.State{}, fmt.Errorf("the answer cannot be read: %w", err)
	}
	if !isEpoch(answer.Epoch) {
		return restart.State{}, fmt.Errorf(
			"the answer's epoch is not of 1 to %d visible ASCII characters without quote and backslash", maxEpoch)
	}
	return restart.State{Epoch: answer.Epoch, Since: answer.Since.UTC(), Ready: answer.Ready}, nil
}

// isEpoch reports whether an epoch can stand in an entity tag as it is, and can be read there without doubt: the
// standard lets a backslash stand for itself, and some servers do not.
func isEpoch(epoch restart.Epoch) bool {
	for _, c := range []byte(epoch) {
		if c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return 0 < len(epoch) && len(epoch) <= maxEpoch
}

// classifyNoAnswer returns the error of a trigger that was not answered.
func classifyNoAnswer(err error, connected bool) error {
	switch {
	case isUntrusted(err):
		return fmt.Errorf("%w: %w", restart.ErrPermanent, withRemedy(err))
	case !connected:
		return fmt.Errorf("%w: nothing was sent: %w", restart.ErrRefused, err)
	}
	return fmt.Errorf("no answer: %w", err)
}

// isUntrusted reports whether the server could not prove who it is, and so was told nothing.
func isUntrusted(err error) bool {
	var untrusted *tls.CertificateVerificationError
	return errors.As(err, &untrusted)
}

func withRemedy(err error) error {
	if isUntrusted(err) {
		return fmt.Errorf("%w; webhook.ca names a file with the authorities to trust", err)
	}
	return err
}

// classifyStatus returns the error of a trigger that was answered, and not taken.
func classifyStatus(code int, header http.Header, text []byte) error {
	err := statusError(code, text)
	switch {
	case code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable:
		return &restart.RefusedError{After: callout.RetryAfter(header, time.Now(), maxRetryAfter), Err: err}
	case code == http.StatusConflict || code == http.StatusPreconditionFailed:
		return fmt.Errorf("%w: %w", restart.ErrChanged, err)
	case code/100 == 4 || isRedirect(code):
		return fmt.Errorf("%w: %w", restart.ErrPermanent, err)
	}
	return err
}

// isRedirect reports whether a server that answers so has done nothing but to name another address. It is not so for
// 303, with which servers send to the result of what they did.
func isRedirect(code int) bool {
	switch code {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// statusError returns an error for people.
func statusError(code int, text []byte) error {
	status := strings.TrimSpace(strconv.Itoa(code) + " " + http.StatusText(code))
	switch {
	case isRedirect(code):
		return fmt.Errorf("the server answered %s, and redirects are not followed: configure the final URL", status)
	case len(text) == 0:
		return fmt.Errorf("the server answered %s", status)
	}
	return fmt.Errorf("the server answered %s: %q", status, text[:min(len(text), maxText)])
}
