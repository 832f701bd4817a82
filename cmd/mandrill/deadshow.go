package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/deadletter"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

func (a *app) deadShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show all that is known of a request that was given up",
		Long: `Show all that is known of a request that was given up: why, the receipt, the message it was, and what came. The bytes
of one that could not be read are shown in hexadecimal too. A request that was sent more than once can have several
letters; JSON is a list of them, for that reason. All times are in UTC.`,
		Example: `  mandrill dead show 01a1fbe2-e6cc-736c-b479-60539a1e765f
  mandrill dead show 01a1fbe2-e6cc-736c-b479-60539a1e765f --output json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("dead show: takes one id, and got %d", len(args))
			}
			return nil
		},
	}
	out := addOutput(cmd)
	config.AddFlags(cmd.Flags(), deadSettings...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := parseID("dead show", args[0])
		if err != nil {
			return err
		}
		loaded, err := a.loadConfig(cmd, nil)
		if err != nil {
			return err
		}
		return a.withDeadLetters(cmd.Context(), loaded.Config, func(ctx context.Context, box *deadBox) error {
			return box.show(ctx, id, *out)
		})
	}
	return cmd
}

func (b *deadBox) show(ctx context.Context, id uuid.UUID, out output) error {
	var letters []deadletter.Letter
	for e, err := range b.letters(ctx, deadletter.Filter{IDs: []uuid.UUID{id}}) {
		if err != nil {
			return err
		}
		letters = append(letters, e.Letter)
	}
	if len(letters) == 0 {
		return missing([]uuid.UUID{id}, nil)
	}
	if out == outputJSON {
		return b.app.printJSON(letters)
	}
	w := bufio.NewWriter(b.app.stdout)
	for i, l := range letters {
		if i > 0 {
			fmt.Fprintln(w)
		}
		printLetter(w, l)
	}
	return w.Flush()
}

// printLetter prints a letter for people.
func printLetter(w io.Writer, l deadletter.Letter) {
	o := l.Outcome
	printFacts(w, []fact{
		{"request", o.ID.String()},
		{"host", string(o.Host)},
		{"group", string(o.Group)},
		{"reason", string(o.Reason)},
		{"last error", o.Detail},
		{"given up at", timeText(o.At, preciseTime)},
		{"attempts", strconv.Itoa(o.Receipt.Attempt)},
		{"deliveries", strconv.Itoa(l.Deliveries)},
		{"requested by", o.Receipt.RequestedBy},
		{"requested at", timeText(o.Receipt.RequestedAt, preciseTime)},
		{"worker", o.Receipt.Worker},
		{"from", string(o.Receipt.From)},
		{"to", string(o.Receipt.To)},
		{"triggered at", timeText(o.Receipt.TriggeredAt, preciseTime)},
		{"verified at", timeText(o.Receipt.VerifiedAt, preciseTime)},
		{"work subject", l.WorkSubject},
		{"work sequence", strconv.FormatUint(l.WorkSequence, 10)},
		{"stored at", timeText(l.Stored, preciseTime)},
		{"wire version", l.Version},
		{"requeued as", idText(l.RequeuedAs)},
		{"requeued at", timeText(l.RequeuedAt, preciseTime)},
		{"came", cameText(l)},
	})
	if utf8.Valid(l.Data) {
		printFacts(w, []fact{{"as text", string(l.Data)}})
	}
	if o.Reason == restart.ReasonMalformed || !utf8.Valid(l.Data) {
		fmt.Fprint(w, hex.Dump(l.Data))
	}
}

// cameText says how much came, and whether that is what the letter has.
func cameText(l deadletter.Letter) string {
	if l.Whole() {
		return fmt.Sprintf("%d bytes", len(l.Data))
	}
	return fmt.Sprintf("%d bytes, of which the first %d were kept", l.DataSize, len(l.Data))
}
