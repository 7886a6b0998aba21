// Package point takes servers to a point in time, as jobs of the task pointrestore: of a backup that this receiver holds and of
// the archived binary logs it makes a physical backup of that point, in the private server of package recovery, and then asks
// for a flashback to it (package restore).
//
// So the server that is restored is never half way: until the flashback its data are as they were, and a flashback puts them back
// when it fails. What is cut here leaves nothing, or a backup of the point that can be restored by its id. The package owns none of
// the rules by which a server may be restored.
package point
