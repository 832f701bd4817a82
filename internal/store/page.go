package store

import (
	"fmt"
	"iter"
	"math"
)

// PageSize is how many entries of the history are read at a time.
const PageSize = 500

// ByPage returns a history that is read page by page, limit entries at most; 0 is no limit. read returns at most n
// entries after a place, and the place of the last. Nothing is held while the caller has an entry: so a slow caller does
// not keep old rows alive, and one that asks for more in its loop does not wait for a connection that it has itself.
func ByPage[Place any](limit int, beginning Place, read func(after Place, n int) ([]Entry, Place, error)) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		left := limit
		if left <= 0 {
			left = math.MaxInt
		}
		for after := beginning; left > 0; {
			n := min(left, PageSize)
			page, last, err := read(after, n)
			if err != nil {
				yield(Entry{}, fmt.Errorf("cannot read history: %w", err))
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
			}
			if len(page) < n {
				return
			}
			after, left = last, left-n
		}
	}
}
