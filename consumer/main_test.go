package consumer

import (
	"testing"

	"go.uber.org/goleak"
)

// M43: no goroutine survives Run, in any test of this package.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
