package campaign

import (
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// abortedCampaign is one with a host of every kind of end.
func abortedCampaign() (*Spec, Progress, func(uuid.UUID) (restart.Outcome, bool)) {
	s := newSpec(6, "1,4", "4")
	s.ID = uuid.MustParse("019cac48-0000-7000-8000-000000000001")
	other := uuid.MustParse("019cac48-0000-7000-8000-000000000002")
	p := newProgress(s)
	p.Campaign, p.State, p.Why, p.Started, p.Over = s.ID, Aborted, "by ops: wrong image", began, began.Add(time.Hour)
	copy(p.Hosts, "vnabo.")
	p.Batches, p.BatchEnd, p.Others = []int{0, 1}, 5, map[int]uuid.UUID{3: other}
	return s, p, func(id uuid.UUID) (restart.Outcome, bool) {
		return restart.Outcome{
			Kind: restart.Restarted, Reason: restart.ReasonVerified, At: began.Add(time.Minute),
			Receipt: restart.Receipt{
				From: "e0", To: "e1", TriggeredAt: began.Add(10 * time.Second), VerifiedAt: began.Add(30500 * time.Millisecond),
			},
		}, id == restart.CampaignID(s.ID, s.Hosts[0])
	}
}

func TestReport_SaysOfEachHostWhatWasAndWhatWasNotRestarted(t *testing.T) {
	r := NewReport(abortedCampaign())
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	want := `campaign 019cac48-0000-7000-8000-000000000001, group default: aborted, by ops: wrong image
6 hosts, not asked 1, in work 1, left to other 1, restarted 1, cancelled 1, dead 1

HOST               BATCH  OUTCOME        REASON     TOOK   FROM  TO
web-0.example.net  1      restarted      verified   20.5s  e0    e1
web-1.example.net  2      dead           not_ready  -      -     -
web-2.example.net  2      cancelled      aborted    -      -     -
web-3.example.net  2      left_to_other  -          -      -     -
web-4.example.net  2      in_work        -          -      -     -
web-5.example.net  -      not_asked      -          -      -     -
`
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReport_SaysTheSameToMachines(t *testing.T) {
	r := NewReport(abortedCampaign())
	var document, table strings.Builder
	if err := r.WriteJSON(&document); err != nil {
		t.Fatal(err)
	}
	var read Report
	if err := json.Unmarshal([]byte(document.String()), &read); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, read); diff != "" {
		t.Errorf("JSON (-written +read):\n%s", diff)
	}
	if err := r.WriteCSV(&table); err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(strings.NewReader(table.String())).ReadAll()
	if err != nil || len(lines) != 7 {
		t.Fatalf("CSV: got %d lines, %v", len(lines), err)
	}
	first := []string{
		"web-0.example.net", "1", r.Rows[0].Request.String(), "restarted", "verified", "2026-03-02T08:01:00Z", "20.500", "e0", "e1",
	}
	if diff := cmp.Diff(first, lines[1]); diff != "" {
		t.Errorf("CSV (-want +got):\n%s", diff)
	}
	if lines[4][2] != r.Rows[3].Request.String() || !r.Rows[3].Other {
		t.Errorf("the host that counts as another request: got %v and %+v", lines[4], r.Rows[3])
	}
}
