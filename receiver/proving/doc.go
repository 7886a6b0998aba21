// Package proving drills and verifies the backups that a receiver holds, as jobs of the tasks backupdrill and backupverify: it
// chooses the backup, has it restored by package drill or reads every byte of it, and records in the catalogue what was found.
//
// Its jobs are run by package duty. Work that could not be done blames no backup.
package proving
