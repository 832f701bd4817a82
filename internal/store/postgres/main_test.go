package postgres_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/store/postgres/postgrestest"
)

var shared postgrestest.Shared

func TestMain(m *testing.M) { goleak.VerifyTestMain(shared.Main(m)) }
