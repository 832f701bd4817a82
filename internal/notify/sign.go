package notify

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// sign returns the signature of a message. It is made as the webhook driver makes that of a request, so that one piece of
// code at the receiver checks both.
func sign(secret []byte, timestamp, method, uri string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(timestamp + "\n" + method + "\n" + uri + "\n"))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}
