package campaign

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

func TestSpec_IsRefusedWithTheFieldThatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		field string
		edit  func(*Spec)
	}{
		{"id", func(s *Spec) { s.ID = uuid.Nil }},
		{"group", func(s *Spec) { s.Group = "a.b" }},
		{"hosts", func(s *Spec) { s.Hosts = nil }},
		{"hosts", func(s *Spec) { s.Hosts[1] = s.Hosts[0] }},
		{"hosts", func(s *Spec) { s.Hosts[1] = "web 1" }},
		{"hosts", func(s *Spec) { s.Hosts = hostNames(60_000) }},
		{"batch", func(s *Spec) { s.Batches = nil }},
		{"batch", func(s *Spec) { s.Batches[0].Percent = 101 }},
		{"max_unavailable", func(s *Spec) { s.MaxUnavailable = Amount{} }},
		{"settle", func(s *Spec) { s.Settle = -1 }},
		{"not_after", func(s *Spec) { s.NotAfter = s.Created }},
		{"not_after", func(s *Spec) { s.NotAfter = s.Created.Add(MaxLife + 1) }},
	} {
		s := newSpec(3, "5%", "1")
		tt.edit(s)
		if fe, ok := errors.AsType[*restart.FieldError](s.Validate()); !ok || fe.Field != tt.field {
			t.Errorf("%s: got error %v", tt.field, s.Validate())
		}
	}
}

func TestSpec_SizesOfBatchesNeverFallHoweverFewHostsThereAre(t *testing.T) {
	s := newSpec(10, "3,5%,50%", "1")
	var got []int
	for step := range 4 {
		got = append(got, s.batchSize(step))
	}
	if diff := cmp.Diff([]int{3, 3, 5, 5}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestArrange_OrdersHostsAsAsked(t *testing.T) {
	hosts := []restart.Host{"d", "a", "c", "b", "a"}
	since := map[restart.Host]time.Time{"a": began, "b": began.Add(-time.Hour), "c": began.Add(-time.Minute)}
	for order, want := range map[Order][]restart.Host{OrderGiven: {"d", "a", "c", "b"}, OrderLongest: {"b", "c", "a", "d"}} {
		if got, err := Arrange(order, 0, hosts, since); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %v, %v; want %v", order, got, err, want)
		}
	}
	one, _ := Arrange(OrderRandom, 7, hosts, nil)
	slices.Reverse(hosts)
	if same, _ := Arrange(OrderRandom, 7, hosts, nil); !slices.Equal(one, same) {
		t.Errorf("the same seed: got %v and %v", one, same)
	}
	if _, err := Arrange("upwards", 0, hosts, nil); err == nil {
		t.Error("an unknown order: got no error")
	}
}
