package postgres

import "github.com/mayhem-mandrill/mandrill/internal/store"

// ForgetQuery is how requests are forgotten: those before $1, $2 at most.
const ForgetQuery = forgetRequests

// CountEnded counts the outcomes since $1.
const CountEnded = countEnded

// HistoryQuery returns how the first page is asked for.
func HistoryQuery(f store.Filter) (query string, args []any) {
	return historyQuery(beginning, f, store.PageSize)
}
