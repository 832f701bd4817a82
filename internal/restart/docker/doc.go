// Package docker restarts containers through the API of a Docker engine, local or remote.
//
// A host is the container of that name, or the one container that carries the host's name in a label. Its epoch is the
// container's id and the time at which the engine last started it, so that a container made anew under an old name is
// another boot. A container that does not run keeps the epoch of its last boot and is not ready; one that runs is
// ready, or, where it has a health check, when that says so. Restarting a stopped container starts it.
//
// The compare holds at acceptance: the engine knows no "restart only if", so the driver looks at the container and then
// asks for a restart of that very container, by its id. A call sends at most one such request, and none when its time
// is up. The engine answers when the container is up again. A call that is cut short after it was sent is unknown: the
// engine goes on with the restart. (20.10 is tested. By their source later ones do too, except that 23 then does not
// wait for the stop timeout before it kills, and some before 25 may leave the container stopped.)
//
// What remains possible: a container that boots by another hand between the look and the restart boots once more; a
// request that an engine takes up late, because the engine itself hung or was stopped meanwhile, takes effect later
// than the traits say; and so does the restart of a container whose processes the kernel cannot kill.
package docker
