// Package binlog archives the binary logs of clusters as they are written, and replays them on a restored backup.
//
// A [Service] follows the primary of each cluster as a replica would and keeps every event in segments: files of frames, each
// compressed, encrypted and on disk before it is acknowledged. [Coverage] says how far the segments of a cluster lead from a base
// backup, [Prepare] reads all of that and refuses what is missing or damaged before anything is touched, and [Plan.Run] feeds the
// rest to a server through mariadb-binlog and mariadb. See DESIGN.md beside this file.
package binlog
