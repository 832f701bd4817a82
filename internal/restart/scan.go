package restart

import "unicode/utf8"

// A payload is what stands in a request on the wire, before anybody has judged it. Times and durations are nil where
// nothing stands, and so is an id that is no text.
type payload struct {
	id, requestedAt, notAfter, minUptime []byte

	host, group                                                 []byte
	instance, reason, requestedBy, campaign, replayOf, requeued []byte
}

// field returns where the value of a key goes; nil if the key is none of ours.
func (p *payload) field(key []byte) *[]byte {
	switch string(key) { // which copies nothing
	case "id":
		return &p.id
	case "instance":
		return &p.instance
	case "host":
		return &p.host
	case "group":
		return &p.group
	case "reason":
		return &p.reason
	case "requested_by":
		return &p.requestedBy
	case "requested_at":
		return &p.requestedAt
	case "not_after":
		return &p.notAfter
	case "campaign":
		return &p.campaign
	case "replay_of":
		return &p.replayOf
	case "requeued_from":
		return &p.requeued
	case "min_uptime":
		return &p.minUptime
	}
	return nil
}

// scan reads a request as Encode writes it, and as nearly everybody does: an object of our keys, whose values are texts
// without escapes. Of anything else it says that it is not plain, and knows nothing; encoding/json then reads it, which
// takes ten times as long. What it returns shares data.
func scan(data []byte) (p payload, plain bool) {
	s := scanner{data}
	if !s.next('{') {
		return p, false
	}
	for first := true; !s.next('}'); first = false {
		if !first && !s.next(',') {
			return p, false
		}
		key, ok := s.text()
		into := p.field(key)
		if !ok || into == nil || !s.next(':') {
			return p, false
		}
		if *into, ok = s.text(); !ok {
			return p, false
		}
	}
	s.space()
	return p, len(s.rest) == 0
}

type scanner struct{ rest []byte }

// space skips any space. It is called at each character between texts, and bytes.TrimLeft makes a table each time.
func (s *scanner) space() {
	for len(s.rest) > 0 && (s.rest[0] == ' ' || s.rest[0] == '\t' || s.rest[0] == '\r' || s.rest[0] == '\n') {
		s.rest = s.rest[1:]
	}
}

// next takes a character, if it is what comes next after any space.
func (s *scanner) next(c byte) bool {
	s.space()
	if len(s.rest) == 0 || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// text takes a text that means what it says, byte for byte.
func (s *scanner) text() ([]byte, bool) {
	if !s.next('"') {
		return nil, false
	}
	ascii := true
	for i, c := range s.rest {
		switch {
		case c == '"':
			text := s.rest[:i:i]
			s.rest = s.rest[i+1:]
			return text, ascii || utf8.Valid(text)
		case c == '\\' || c < ' ':
			return nil, false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return nil, false
}
