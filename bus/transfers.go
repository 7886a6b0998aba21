package bus

import "drydock/job"

// OpenRequest asks a receiver to reserve a port for the stream of one attempt of a job. Repeating it for the same
// attempt answers the same reservation.
type OpenRequest struct {
	Key     job.Key `json:"key"`
	JobID   string  `json:"job_id"`
	Attempt int     `json:"attempt"`
	// Check opens a one-shot reservation that only hashes what comes (receive-jobs-check); no job stands behind it.
	Check bool `json:"check,omitempty"`
	// From are further IP addresses that the stream may come from, beside those of the server: drydock's own, when it does
	// the job itself and sends what its tools make.
	From []string `json:"from,omitempty"`
}

// OpenReply is the reservation.
type OpenReply struct {
	Receiver string `json:"receiver"`
	Address  string `json:"address"`
	Port     int    `json:"port"`
}

// CloseRequest ends the reservation of an attempt, if it is still open, and removes what was not published. An open
// stream is cut: the sender sees a reset connection.
type CloseRequest struct {
	JobID   string `json:"job_id"`
	Attempt int    `json:"attempt"`
	Reason  string `json:"reason"`
}

// CommitRequest asks the receiver that holds a complete stream to publish it: rename and manifest, or append to the
// log. It may be repeated.
type CommitRequest struct {
	Job    job.Job     `json:"job"`
	Checks []job.Check `json:"checks"`
}

// CommitReply names what was published.
type CommitReply struct {
	Path   string `json:"path"`
	Backup string `json:"backup,omitempty"` // id in the catalogue
}

// CheckReply is what came through a [OpenRequest.Check] reservation.
type CheckReply struct {
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// SendRequest asks the receiver that holds a backup ([store.Manifest.Receiver]) to stream it to an address over TCP,
// decompressed and as the tool made it. The answer comes at once and says that the sending begins; what became of it
// stands in the job's Stream, written by the receiver compare-and-swap, because a transfer lasts for hours and an answer
// may be lost: Opened before the first byte; at the end Complete with Bytes and the SHA-256 of what was sent (Algo
// sha256), after the receiver compared it with the manifest; Err and Closed when it broke. Meanwhile there is [Progress].
// It ends with the job: a job that is not live any more has its stream reset.
//
// The connection is ended in order (FIN) only after every byte was read, and the manifest's hash held: a sender that
// must fail resets it. The listener should answer the end by closing its side. A request may be repeated for the same
// attempt; one with another address or nonce is refused then.
//
// The streams to the script are not asked for: a receiver begins them by itself when a job of a task with flow out,
// that is not drydock's own, is waiting and its [job.ArgReceiver] is this receiver.
type SendRequest struct {
	Key     job.Key    `json:"key"` // of the job that wants the backup; the backup is of the same cluster
	JobID   string     `json:"job_id"`
	Attempt int        `json:"attempt"`
	From    job.Server `json:"from"`   // whose backup it is
	Backup  string     `json:"backup"` // id in the catalogue
	Address string     `json:"address,omitempty"`
	// Nonce, when set, has the stream begin with [SendPreamble]: a listener of drydock itself knows by it that the
	// stream is the one it asked for. 16 to 64 letters and digits.
	Nonce string `json:"nonce,omitempty"`
	// Probe only asks whether the backup could be sent: its file is here and has the size it should have. No job is
	// needed for it.
	Probe bool `json:"probe,omitempty"`
}

// SendReply says what will come. Errors: [CodeGone] when the backup or its file is not here, [CodeRefused],
// [CodeExhausted] when the receiver sends as many backups as it may.
type SendReply struct {
	Size int64  `json:"size"` // bytes, without the preamble
	Algo string `json:"algo"` // of Hash
	Hash string `json:"hash"` // of the bytes, as in the manifest
}

// SendPreamble is the line that a stream with a nonce begins with. It counts neither as bytes nor for the hash.
func SendPreamble(nonce string) string { return "drydock-backup " + nonce + "\n" }
