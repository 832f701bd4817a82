package main

import (
	"context"
	"sync"

	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// The steps of a campaign at which a worker can be told to stand still with it, while all else that it does goes on.
const (
	stepBatchWritten    = "BatchWritten"    // the progress says that hosts are asked for, and none has been
	stepBatchPublishing = "BatchPublishing" // the requests are on their way, and nothing was heard of them
)

// heldProgress holds the driver of a campaign once it has stored that more hosts are asked for.
type heldProgress struct {
	campaign.Store
	*holder

	mu   sync.Mutex
	open int // in the progress that this worker has stored last
}

func (h *heldProgress) CompareAndSet(ctx context.Context, p campaign.Progress) (uint64, error) {
	revision, err := h.Store.CompareAndSet(ctx, p)
	if err != nil {
		return revision, err
	}
	h.mu.Lock()
	before := h.open
	h.open = p.Counts().Open
	more := h.open > before && p.Taken == 0 // and not what was open when it was taken up
	h.mu.Unlock()
	if more {
		h.hold(stepBatchWritten, "")
	}
	return revision, nil
}

// heldRequests holds the driver of a campaign once it has sent requests on their way.
type heldRequests struct {
	campaign.Requests
	*holder
}

func (h heldRequests) Publish(ctx context.Context, requests []restart.Request) []campaign.Sent {
	if h.step != stepBatchPublishing {
		return h.Requests.Publish(ctx, requests)
	}
	go h.Requests.Publish(context.WithoutCancel(ctx), requests)
	h.hold(stepBatchPublishing, "")
	return nil // unreachable: it is held for ever
}
