package sink

import (
	"math/bits"

	"lukechampine.com/blake3/guts"
)

// groupSize is the bytes that the vector code hashes in one call: 16 chunks.
const groupSize = guts.MaxSIMD * guts.ChunkSize

// treeHash is BLAKE3 in the calling goroutine. The library's own Hasher starts a goroutine for each
// subtree of each Write and cuts subtrees away from the vector width; on blocks of 256 KiB that was
// more than a third of the hash's CPU time. The hash is the same, only the order of work differs.
// The zero value is ready.
type treeHash struct {
	stack  [64][8]uint32 // chaining value of a whole subtree of 2^i groups, where bit i of groups is set
	groups uint64        // whole groups hashed
	last   [groupSize]byte
	filled int // bytes in last; the group that ends the stream is hashed differently, so one is held back
}

// Write implements io.Writer and never fails.
func (t *treeHash) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		if t.filled == groupSize {
			t.push(&t.last)
			t.filled = 0
		}
		for t.filled == 0 && len(p) > groupSize {
			t.push((*[groupSize]byte)(p))
			p = p[groupSize:]
		}
		n := copy(t.last[t.filled:], p)
		t.filled += n
		p = p[n:]
	}
	return total, nil
}

// push hashes a group that is not the last one and joins it with the subtrees it completes.
func (t *treeHash) push(group *[groupSize]byte) {
	cv := guts.ChainingValue(guts.CompressBuffer(group, groupSize, &guts.IV, t.groups*guts.MaxSIMD, 0))
	i := 0
	for ; t.groups>>i&1 == 1; i++ {
		cv = guts.ChainingValue(guts.ParentNode(t.stack[i], cv, &guts.IV, 0))
	}
	t.stack[i] = cv
	t.groups++
}

// Sum appends the 32 bytes of the hash to b; the state stays as it was.
func (t *treeHash) Sum(b []byte) []byte {
	node := guts.CompressBuffer(&t.last, t.filled, &guts.IV, t.groups*guts.MaxSIMD, 0)
	for left := t.groups; left != 0; left &= left - 1 {
		node = guts.ParentNode(t.stack[bits.TrailingZeros64(left)], guts.ChainingValue(node), &guts.IV, 0)
	}
	node.Flags |= guts.FlagRoot
	sum := guts.WordsToBytes(guts.CompressNode(node))
	return append(b, sum[:32]...)
}
