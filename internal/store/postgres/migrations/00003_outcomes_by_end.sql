-- +goose Up

-- What has ended lately lies at the end of the table. This finds it, and costs those who write next to nothing.
CREATE INDEX outcomes_by_end ON outcomes USING brin (at);
