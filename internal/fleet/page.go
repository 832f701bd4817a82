package fleet

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
)

const (
	// maxPage is how many messages a page holds at most.
	maxPage = 500
	// envelope is what an answer needs beside its messages.
	envelope = 2 << 10
)

// newPage returns the messages behind after in the order of their keys: not more than the limit, and not more than fit
// into room bytes, but one at least. Somebody who follows Next is told once of each message that stays meanwhile.
func newPage(all []Message, q inFlightQuestion, room int) (inFlightPage, error) {
	if q.Limit < 0 {
		return inFlightPage{}, fmt.Errorf("%w: limit %d is negative", errBadQuestion, q.Limit)
	}
	limit := maxPage
	if q.Limit > 0 {
		limit = min(limit, q.Limit)
	}
	type keyed struct {
		key     string
		message *Message
	}
	var rest []keyed
	for i := range all {
		if key := all[i].key(); key > q.After {
			rest = append(rest, keyed{key, &all[i]})
		}
	}
	slices.SortFunc(rest, func(a, b keyed) int { return cmp.Compare(a.key, b.key) })
	page := inFlightPage{Messages: []Message{}}
	for i, r := range rest {
		data, err := json.Marshal(r.message)
		if err != nil {
			return inFlightPage{}, err
		}
		if room -= len(data) + 1; i == limit || i > 0 && room < 0 {
			page.Next = rest[i-1].key
			break
		}
		page.Messages = append(page.Messages, *r.message)
	}
	return page, nil
}
