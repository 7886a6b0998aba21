// Package archive brings the backups of a receiver into a repository of restic, removes there what the backup-keep keys
// let go of, and checks the repository.
//
// Its jobs are done by package duty. It also orders them: what a receiver finds in the catalogue among its own backups
// without a record of an archive, it orders, so that no crash between a backup and its archive loses the latter.
//
// Every receiver archives what it holds itself. restic's own locks keep the receivers of one repository apart.
package archive
