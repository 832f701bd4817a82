// Package config reads Mandrill's settings: from defaults, a strict YAML file, the environment and flags, each
// stronger than the one before. The file may have a section for a group of hosts, which is stronger than the rest of the
// file; Config.For returns what is then in effect for the group.
//
// One table (see settings.go) drives everything: the key names the place in the file, the variable and the flag. Monitors,
// of which there may be any number, stand in the file alone, and have a table of their own (see monitorkeys.go). What
// results has been checked as a whole, every problem is reported at once, under the setting's name and with the place
// that it came from, and no message and no printed Config holds a secret.
package config
