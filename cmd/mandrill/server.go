package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
)

func (a *app) serverCommand() *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run the embedded NATS server alone",
		Long: `Run the embedded NATS server alone, for integration tests or to try several workers on one machine. When it is
ready it prints one line of JSON to standard output: {"url": "nats://TOKEN@HOST:PORT"}, which --nats takes as it is.`,
		Example: `  mandrill server --data /tmp/mandrill --listen 127.0.0.1:4222`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkListen(listen); err != nil {
				return err
			}
			loaded, err := a.loadConfig(cmd, nil)
			if err != nil {
				return err
			}
			return a.serve(cmd, loaded.Config, listen)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "", "host:port for clients (default a free port on loopback)")
	config.AddFlags(cmd.Flags(), "data", "sync", "log.level", "log.format")
	return cmd
}

func checkListen(listen string) error {
	if listen == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return usagef("--listen: %q is not a host and a port, such as 127.0.0.1:4222", listen)
	}
	return nil
}

func (a *app) serve(cmd *cobra.Command, cfg config.Config, listen string) (err error) {
	ctx := cmd.Context()
	log := a.newLogger(cfg.Log)
	server, err := startEmbedded(ctx, cfg.Data, listen, cfg.Sync, log)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, server.close())
		log.Info().Err(err).Msg("server stopped")
	}()
	ready, err := json.Marshal(map[string]string{"url": server.tokenURL()})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(a.stdout, "%s\n", ready); err != nil {
		return err
	}
	log.Info().Str("url", server.URL()).Str("data", cfg.Data).Msg("server is ready")
	return server.watch(ctx)
}

// tokenURL returns the URL with the token in it.
func (s *embeddedServer) tokenURL() string {
	u, err := url.Parse(s.URL())
	if err != nil {
		return s.URL()
	}
	u.User = url.User(s.token)
	return u.String()
}
