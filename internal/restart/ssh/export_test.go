package ssh

import "time"

// SetMaxSilence changes how long a host that restarts may be silent.
func (d *Driver) SetMaxSilence(silence time.Duration) { d.maxSilence = silence }

// RestartCommand returns the command line that restarts.
func RestartCommand(from, deadline, bootID, uptime, reboot string) string {
	return command(restartScript, from, deadline, bootID, uptime, reboot)
}

// Command returns the command line that runs a script.
var Command = command
