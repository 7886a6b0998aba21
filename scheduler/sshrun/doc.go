// Package sshrun runs the dbjobs script on the database hosts over SSH (maintenance.txt section 6.1.4.2).
//
// At each tick of scheduler-jobs-ssh-cron it logs in to every host of the cluster, and feeds the environment block of
// section 6.1.5 and the script through the standard input of one `bash -s -- --once`: no file is left on the host, and
// no argument list holds a secret. A host has one session at most, whichever process on the bus opened it; the number
// of sessions of the process is bounded, and so is how long one may last. What a session did is told by the jobs
// themselves; the package only reports how it ended.
//
// It does not decide what is due and does not know about jobs: that is the dbjobs protocol's, which the script speaks.
package sshrun
