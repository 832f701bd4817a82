package ssh

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// How a script exits, beside 0: the codes of sysexits that every driver shares, and those of the shell.
const (
	exitRefused    = 75
	exitChanged    = 76
	exitConfig     = 78
	exitCannotRun  = 126
	exitNotFound   = 127
	bootMark       = "mandrill-boot "
	restartingMark = "mandrill-restarting"
)

// The scripts are constants, given whole to a /bin/sh at the host; what varies are their arguments. They have no quote,
// line break, backslash or '!', which some login shells would not hand on as they stand.
const (
	// Arguments: path of boot_id, path of uptime.
	bootScript = `b=$(cat "$1") && u=$(cat "$2") || exit 78; echo "` + bootMark + `$b $u"`

	// Arguments: from, deadline in hundredths of a second of uptime, path of boot_id, path of uptime, reboot command.
	// The uptime is read last because only its answer can become wrong: while the script lives, so does its boot.
	restartScript = `b=$(cat "$3") || exit 78; [ "$b" = "$1" ] || exit 76; ` +
		`u=$(cat "$4") || exit 78; u=${u%% *}; [ "${u%.*}${u#*.}" -le "$2" ] || exit 75; ` +
		`echo ` + restartingMark + `; eval "$5"`

	// Arguments: ready command.
	readyScript = `eval "$1"`
)

// command returns the command line that runs a script, for whatever login shell the user has.
func command(script string, args ...string) string {
	words := []string{"exec /bin/sh -c", quote(script), "mandrill"}
	for _, arg := range args {
		words = append(words, quote(arg))
	}
	return strings.Join(words, " ")
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// A boot is what a host said of its running boot.
type boot struct {
	epoch  restart.Epoch
	uptime time.Duration
	readAt time.Time // when the answer was here, so that the uptime was read before
}

// readBoot asks which boot is running. Its errors wrap ErrPermanent or no class.
func (d *Driver) readBoot(ctx context.Context, c *conn) (boot, error) {
	a, err := c.ask(ctx, d.cfg.Timeout, command(bootScript, d.cfg.BootID, d.cfg.Uptime))
	if err != nil {
		return boot{}, err
	}
	switch a.code {
	case 0:
	case exitConfig, exitCannotRun, exitNotFound:
		return boot{}, fmt.Errorf("%w: cannot read boot_id and uptime: %w", restart.ErrPermanent, a.err())
	default:
		return boot{}, fmt.Errorf("cannot read boot_id and uptime: %w", a.err())
	}
	b, err := parseBoot(a.stdout.line(bootMark))
	if err != nil {
		return boot{}, fmt.Errorf("%w: %w", restart.ErrPermanent, err)
	}
	b.readAt = a.at
	return b, nil
}

// parseBoot reads a boot_id and an uptime, of which only the first number matters.
func parseBoot(line string) (boot, error) {
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return boot{}, fmt.Errorf("it has said %.200q instead of its boot_id and uptime", line)
	}
	if !isBootID(fields[0]) {
		return boot{}, fmt.Errorf("boot_id: %.80q is not the id of a boot", fields[0])
	}
	// The script leaves the dot out to compare, so there must be the two digits after it that the kernel writes.
	whole, hundredths, _ := strings.Cut(fields[1], ".")
	n, err := strconv.ParseUint(whole+hundredths, 10, 39) // As many as fit into a Duration.
	if err != nil || whole == "" || len(hundredths) != 2 {
		return boot{}, fmt.Errorf("uptime: %.80q is not in seconds and hundredths", fields[1])
	}
	return boot{epoch: restart.Epoch(fields[0]), uptime: time.Duration(n) * 10 * time.Millisecond}, nil
}

func (d *Driver) isReady(ctx context.Context, c *conn) (bool, error) {
	if d.cfg.Ready == "" {
		return true, nil
	}
	a, err := c.ask(ctx, d.cfg.Timeout, command(readyScript, d.cfg.Ready))
	if err != nil {
		return false, fmt.Errorf("cannot run ready: %w", err)
	}
	if a.code == exitCannotRun || a.code == exitNotFound {
		return false, fmt.Errorf("cannot run ready: %w", a.err())
	}
	return a.code == 0, nil
}

// runRestart sends the script that restarts, and waits for its answer: no longer than the time left until it says that
// it restarts, and maxSilence from then on.
func (d *Driver) runRestart(ctx context.Context, c *conn, from restart.Epoch, deadline, left time.Duration) error {
	patience := time.AfterFunc(left+d.maxSilence, c.cut)
	defer patience.Stop()
	marked := false
	onMark := func() {
		marked = true
		patience.Reset(d.maxSilence)
	}
	hundredths := strconv.FormatInt(int64(deadline/(10*time.Millisecond)), 10)
	line := command(restartScript, string(from), hundredths, d.cfg.BootID, d.cfg.Uptime, d.cfg.Reboot)
	a, err := c.run(ctx, line, restartingMark, onMark)
	if err == nil {
		return a.restartErr()
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	} else if marked {
		return nil // The connection, or the session, went down with the host.
	}
	return fmt.Errorf("no answer to the reboot command: %w", err)
}

// restartErr is what the exit code of the script, or of the reboot command, means.
func (a answer) restartErr() error {
	switch a.code {
	case 0:
		return nil
	case exitChanged:
		return restart.ErrChanged
	case exitRefused:
		return fmt.Errorf("%w: %w", restart.ErrRefused, a.err())
	case exitConfig, exitCannotRun, exitNotFound:
		return fmt.Errorf("%w: %w", restart.ErrPermanent, a.err())
	}
	return fmt.Errorf("the reboot command may have done it or not: %w", a.err())
}
