package docker_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/restart/docker/dockertest"
)

var shared dockertest.Shared

func TestMain(m *testing.M) { goleak.VerifyTestMain(shared.Main(m)) }
