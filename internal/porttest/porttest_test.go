package porttest

import (
	"fmt"
	"net"
	"testing"
)

func TestFree_GivesNoPortTwiceAndNoneWhereSomebodyListens(t *testing.T) {
	next := lowest + int((given.Load()+1)%count)
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", next))
	if err != nil {
		t.Skipf("somebody else has it: %v", err)
	}
	defer l.Close()
	seen := map[int]bool{next: true}
	for range 100 {
		port, err := Free()
		if err != nil {
			t.Fatal(err)
		}
		if seen[port] || port < lowest || port >= lowest+count {
			t.Fatalf("got port %d, want another one in [%d, %d)", port, lowest, lowest+count)
		}
		seen[port] = true
	}
}
