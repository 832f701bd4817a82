package sqlite

import "github.com/mayhem-mandrill/mandrill/internal/store"

// RequestsQuery returns how the first page of requests is asked for.
func RequestsQuery(f store.Filter) (query string, args []any) {
	return requestsQuery(beginning, f, pageSize)
}
