// Package proving drills the backups that a receiver holds, as jobs of the task backupdrill: it chooses the backup, has it
// restored by package drill, and records in the catalogue what was found.
//
// Its jobs are run by package duty. A drill that could not be done blames no backup.
package proving
