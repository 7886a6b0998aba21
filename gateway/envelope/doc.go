// Package envelope opens and seals the encrypted bodies of the dbjobs protocol, and reads the identity inside them
// (maintenance.txt section 6.1.7.3, wire.md section 2).
//
// A body goes through three shapes:
//
//	{"data":"<base64>"}  ->  AES-256-CBC blocks  ->  {"server":"HOST:PORT","secret":"PASSWORD", ...}
//
// The fixed key and IV are the protocol's, not ours. CBC has no integrity, so nothing that was merely decrypted is
// trusted: what proves the caller is that the plaintext is one JSON object that names the right server and, where
// there is a secret, the right password. [Cipher.Open] therefore decrypts, [Cipher.Identify] decides, and every
// failure of either is the one value [ErrSealed].
//
// The package owns no network, no log and no state beside a cached cipher. Freshness (the time and nonce that
// drydock's own script adds) is handed to the caller, who keeps the memory that a replay check needs.
package envelope

import "errors"

// ErrSealed is returned for every body or identity that is refused, whatever was wrong with it: a caller must not
// learn which part failed. Answer 401 and do not log the body.
var ErrSealed = errors.New("open envelope: refused")
