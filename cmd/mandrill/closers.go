package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"
)

// closers close what was opened, in reverse order. An error does not keep the later ones from being closed.
type closers struct {
	log   zerolog.Logger
	named []closer
}

type closer struct {
	name  string
	close func() error
}

func (c *closers) add(name string, close func() error) {
	c.named = append(c.named, closer{name, close})
}

func (c *closers) closeAll() error {
	var errs []error
	for i := len(c.named) - 1; i >= 0; i-- {
		began := time.Now()
		err := c.named[i].close()
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot close %s: %w", c.named[i].name, err))
		}
		c.log.Debug().Str("step", c.named[i].name).Dur("took", time.Since(began)).Err(err).Msg("closed")
	}
	c.named = nil
	return errors.Join(errs...)
}
