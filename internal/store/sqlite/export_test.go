package sqlite

import (
	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// A Query is a statement as the store runs it.
type Query struct {
	Text string
	Args []any
}

// HistoryQuery returns how the first page of a history is asked for.
func HistoryQuery(f store.Filter) Query {
	p := pathOf(f)
	text, args := p.query(p.beginning(f), f, store.PageSize)
	return Query{text, args}
}

// Queries are all others, by what they are for.
func Queries() map[string]Query {
	id := uuid.Nil
	return map[string]Query{
		"Request":        {selectRequest, []any{id}},
		"Outcome":        {selectOutcome, []any{id}},
		"Ended":          {countEnded, []any{0}},
		"Attempts":       {selectAttempts, []any{id}},
		"Owner":          {selectOwner, []any{id}},
		"Oldest":         {selectOldest, []any{0, 1}},
		"DeleteRequest":  {deleteRequest, []any{id}},
		"DeleteOutcome":  {deleteOutcome, []any{id}},
		"DeleteAttempts": {deleteAttempts, []any{id}},
	}
}
