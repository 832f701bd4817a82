// Package deploytest holds what is shipped in the folder deploy against those who will read it: systemd, Compose and a Docker
// engine. It has only tests.
package deploytest
