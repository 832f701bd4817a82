package sqlite

import (
	"database/sql"
	"database/sql/driver"
	"fmt"
	"time"
)

// micros returns a time as it is stored. The zero time has a number too, and comes back as the zero time.
func micros(t time.Time) int64 { return t.UnixMicro() }

func fromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }

// microsOrNull stores the zero time as null, for a time that may never have been.
func microsOrNull(t time.Time) driver.Value {
	if t.IsZero() {
		return nil
	}
	return micros(t)
}

// orNull stores the zero value as null.
func orNull[T comparable](v T) driver.Value {
	var zero T
	if v == zero {
		return nil
	}
	return v
}

// scanTime returns what scans a stored time, with the zero time for null.
func scanTime(t *time.Time) sql.Scanner { return timeScanner{t} }

type timeScanner struct{ t *time.Time }

func (s timeScanner) Scan(src any) error {
	switch us := src.(type) {
	case nil:
		*s.t = time.Time{}
	case int64:
		*s.t = fromMicros(us)
	default:
		return fmt.Errorf("time is stored as a %T", src)
	}
	return nil
}

// orZero returns what scans a column of a row that need not be there, with the zero value for null.
func orZero[T any](v *T) sql.Scanner { return zeroScanner[T]{v} }

type zeroScanner[T any] struct{ v *T }

func (s zeroScanner[T]) Scan(src any) error {
	var value sql.Null[T]
	err := value.Scan(src)
	*s.v = value.V
	return err
}
