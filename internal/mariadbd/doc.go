// Package mariadbd starts real MariaDB servers in private folders on
// loopback ports, for the tests and for "drydock demo".
//
// The package owns the server processes, their configuration files and their
// data folders below [Options.Dir]; the caller owns Dir itself and removes it
// after [Server.Stop] or [Server.Kill]. A server never outlives the program
// that started it, not even one ended by SIGKILL (see process.go).
//
// It runs on Linux, as root or as an ordinary user, and needs the commands
// mariadbd and mariadb-install-db.
package mariadbd
