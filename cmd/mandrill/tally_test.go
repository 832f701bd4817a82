package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/rs/zerolog"
)

// Of a key that stands twice in a line, each reader of the log takes another one.
func TestTally_LastLineHasNoKeyTwice(t *testing.T) {
	var line bytes.Buffer
	log := zerolog.New(&line)
	log.Info().EmbedObject(newTally()).Msg("stopped")
	seen := map[string]bool{}
	decoder := json.NewDecoder(bytes.NewReader(line.Bytes()))
	for i := 0; ; i++ {
		token, err := decoder.Token()
		if err != nil {
			break
		}
		key, isText := token.(string)
		if isKey := i%2 == 1; !isText || !isKey { // the object's brace comes first
			continue
		}
		if seen[key] {
			t.Errorf("%q stands twice in %s", key, line.String())
		}
		seen[key] = true
	}
	if !seen["restarted"] || !seen["message"] {
		t.Errorf("got keys %v", seen)
	}
}
