// Package command is the driver that runs programs: one that probes a host and one that restarts it, as configured.
//
// Programs are run as they stand, with their arguments as a list and never through a shell. Placeholders such as
// {host} are replaced only where they are a whole argument, so that no value can become more than one argument or part
// of another. A program sees a small environment: PATH, HOME, LANG, TZ, TMPDIR, the variables that the configuration
// names, and what is asked of it as RESTART_HOST and so on. Its input is empty. Of its output only the end is kept.
//
// A probe that exits with 0 prints the epoch on its first line. Further lines may say "ready: yes" or "ready: no"
// (none means yes) and "since: " with a time as in RFC 3339; empty lines are ignored, and anything else is an error,
// because a line that is misspelt must not make a host look ready. So is output beyond what is kept. Any other exit
// means unknown.
//
// A restart program says by its exit status what is known: 0 taken, 75 refused for now, 76 another boot is running, 78
// cannot ever succeed; 126 and 127, by which shells say that a program cannot be run or found, count as 78. With each
// of these but 0 it promises that nothing was done, so a script must not end with 126 or 127 after it has begun.
// Anything else, and a program that was killed, means unknown.
//
// When the context ends, or the time that a trigger allows, the program is killed with its whole process group. What a
// program has left in the background when it ends by itself is left alone: it may be the restart. Such a background
// process should not hold on to the program's output, which is closed behind it a second later.
//
// How strong the compare is rests with the restart program, which must compare {epoch} with the host's; the
// configuration says where it does so. What remains possible is what the program makes possible, and that a part of it
// goes on after the time allowed: what left its process group, what runs as another user, what it left in the
// background, and what it has asked of another machine. If the worker itself is killed, then on Linux the program is
// killed too, but not what the program has started, and not if it runs with other rights than the worker's, as by
// sudo; elsewhere it goes on.
package command
