package job

// ArgConfirm is an argument of a [KindRestore] job: who asked for it knows that the data of the server is replaced. A job
// without it ends as an error.
const ArgConfirm = "confirm"
