package notify

import (
	"net/http"

	"github.com/mayhem-mandrill/mandrill/internal/callout"
)

var Sign = callout.Sign

// NewOver returns a notifier that sends over the transport.
func NewOver(transport http.RoundTripper, cfg Config) (*Notifier, error) {
	n, err := New(cfg)
	if err == nil {
		n.transport = transport
	}
	return n, err
}

// Body returns the body of the message that would tell the notice.
func (n *Notifier) Body(notice Notice) string { return string(n.body.render(notice)) }
