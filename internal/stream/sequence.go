package stream

import (
	"errors"

	"github.com/nats-io/nats.go/jetstream"
)

// IsWrongSequence reports whether err is the broker's word that the last sequence of a subject is not the expected
// one. A replicated stream has a code of its own for it, which it also gives while another publish is only on its way.
func IsWrongSequence(err error) bool {
	var apiErr *jetstream.APIError
	return errors.As(err, &apiErr) &&
		(apiErr.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
			apiErr.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}
