-- +goose Up

-- What has ended lately is counted from this alone.
CREATE INDEX outcomes_by_end ON outcomes (at, grp, kind);
