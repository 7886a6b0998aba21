package envelope

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/md5" // the protocol's way to the IV; nothing rests on its strength
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
)

// Cipher seals and opens the bodies of one server. Making one costs a key schedule, so make it once per password.
// It is safe for concurrent use. The zero value is not usable.
type Cipher struct {
	block cipher.Block
	iv    [md5.Size]byte
}

// New returns the cipher for a server's password: the key is SHA-256 of the password and the IV its MD5, as all
// deployed clients have it (maintenance.txt section 6.1.7.3).
func New(password string) *Cipher {
	key := sha256.Sum256([]byte(password))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // only for a wrong key length, and a SHA-256 sum always has 32 bytes
	}
	return &Cipher{block: block, iv: md5.Sum([]byte(password))}
}

// Open returns the plaintext of a body {"data":"<base64>"}. An empty body and {"data":""} are "no payload": nil, nil.
// The error is [ErrSealed] for a body that anyone can see is malformed: not that shape, not base64, not whole blocks.
//
// A nil error proves nothing about the caller: give the plaintext to [Cipher.Identify]. Open does not say whether the
// padding was right, because that answer, told by an error or by the time it takes, would let the holder of a recorded
// body decrypt it block by block. Plaintext with wrong padding is returned as it is, costs the same work as any other,
// and fails later because it is not JSON.
func (c *Cipher) Open(body []byte) ([]byte, error) {
	data, err := payload(body)
	if err != nil || len(data) == 0 {
		return nil, err
	}
	blocks, err := decode(data)
	if err != nil || len(blocks) == 0 || len(blocks)%aes.BlockSize != 0 {
		return nil, ErrSealed
	}
	cipher.NewCBCDecrypter(c.block, c.iv[:]).CryptBlocks(blocks, blocks)
	return trimFill(unpad(blocks)), nil
}

// Seal returns the body {"data":"<base64>"} for a plaintext, padded with PKCS#7 as the Go client does it.
func (c *Cipher) Seal(plaintext []byte) []byte {
	n := aes.BlockSize - len(plaintext)%aes.BlockSize
	blocks := append(bytes.Clone(plaintext), bytes.Repeat([]byte{byte(n)}, n)...)
	cipher.NewCBCEncrypter(c.block, c.iv[:]).CryptBlocks(blocks, blocks)

	body := append(make([]byte, 0, base64.StdEncoding.EncodedLen(len(blocks))+len(head)+len(tail)), head...)
	body = base64.StdEncoding.AppendEncode(body, blocks)
	return append(body, tail...)
}

// The only shape that deployed clients send, recognised without a JSON parser (perf.md section 2).
const (
	head = `{"data":"`
	tail = `"}`
)

// payload returns the base64 text of a body, nil for none.
func payload(body []byte) ([]byte, error) {
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return nil, nil
	}
	if in, ok := bytes.CutPrefix(body, []byte(head)); ok {
		if in, ok = bytes.CutSuffix(in, []byte(tail)); ok && bytes.IndexByte(in, '"') < 0 && bytes.IndexByte(in, '\\') < 0 {
			return in, nil
		}
	}
	var data []byte
	found := false
	err := (&scanner{src: body}).object(func(key string, v value) error {
		if key == "data" && v.quoted() {
			data, found = []byte(v.text()), true
		}
		return nil
	})
	if err != nil || !found {
		return nil, ErrSealed
	}
	return data, nil
}

// decode reads standard base64 with or without padding, and with the line breaks of a plain `openssl enc -a`.
func decode(data []byte) ([]byte, error) {
	if bytes.ContainsAny(data, " \t") {
		data = bytes.Map(func(r rune) rune {
			if r == ' ' || r == '\t' {
				return -1
			}
			return r
		}, data)
	}
	data = bytes.TrimRight(data, "=\r\n")
	out := make([]byte, base64.RawStdEncoding.DecodedLen(len(data)))
	n, err := base64.RawStdEncoding.Decode(out, data)
	return out[:n], err
}

// unpad strips PKCS#7 padding. It looks at the whole last block whatever it finds, and strips nothing when the padding
// is wrong; b has at least one block.
func unpad(b []byte) []byte {
	last := b[len(b)-aes.BlockSize:]
	n := int(last[aes.BlockSize-1])
	good := subtle.ConstantTimeLessOrEq(1, n) & subtle.ConstantTimeLessOrEq(n, aes.BlockSize)
	for i, v := range last {
		inside := subtle.ConstantTimeLessOrEq(aes.BlockSize-i, n)
		good &= subtle.ConstantTimeSelect(inside, subtle.ConstantTimeByteEq(v, byte(n)), 1)
	}
	return b[:len(b)-subtle.ConstantTimeSelect(good, n, 0)]
}

// maxFill is the most the shell client adds before openssl pads: it fills up to a multiple of 32 and never adds nothing.
const maxFill = 32

// trimFill strips the 1 to 32 bytes of value 1 that the shell client leaves behind its JSON (wire.md section 2, "double
// padding"). Only what follows a closing brace is filling; other content keeps its last bytes.
func trimFill(b []byte) []byte {
	end := len(b)
	for end > 0 && len(b)-end < maxFill && b[end-1] == 1 {
		end--
	}
	if end < len(b) && bytes.HasSuffix(bytes.TrimRight(b[:end], " \t\r\n"), []byte("}")) {
		return b[:end]
	}
	return b
}
