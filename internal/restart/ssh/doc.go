// Package ssh restarts Linux hosts over SSH: it runs a reboot command there, by way of a jump host if need be.
//
// An epoch is the kernel's boot_id. The compare holds at the moment of effect: the script that reboots reads boot_id
// itself, at the host, and dies with its boot, so that it can never end a later one, however late it runs. The same
// script reads the host's own uptime and does nothing once the time allowed is over; no clocks are compared.
//
// Every host must be in known_hosts, the jump host too. There are no passwords. Each call makes one connection of its
// own and ends it; nothing is kept between calls but the parsed known_hosts.
//
// A connection that is lost after the script has said that it restarts means taken, because that is how a reboot looks
// from outside. One that is lost before means that nobody knows.
//
// What remains possible: the time allowed ends where the reboot command starts, so a host that hangs in its shutdown
// goes down later, but only the boot that was named. A virtual machine that is set back to a snapshot has the boot_id
// of that snapshot again; containers have that of their kernel, and a restart of user space alone keeps it. A host that
// refuses logins while it starts or stops looks like one that does not know the key.
package ssh
