package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// sign returns the signature of a request. What is signed are its parts with line feeds between them: none but the last
// can hold one, so no two requests give the same text. The headers that make a request conditional are not among them,
// because its body says the same.
func sign(secret []byte, timestamp, method, uri string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(timestamp + "\n" + method + "\n" + uri + "\n"))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}
