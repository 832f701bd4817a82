package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// version is set by the build of a release; otherwise what the toolchain knows stands in for it.
var version string

// ourVersion returns which version this is, or what stands in for it.
func ourVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && version == "" && info.Main.Version != "" {
		return info.Main.Version
	}
	return cmp.Or(version, "unknown")
}

func (a *app) versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  mandrill version --output json",
		Args:    noArgs,
	}
	out := addOutput(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		v := ourVersion()
		if *out == outputJSON {
			return a.printJSON(map[string]string{
				"version": v, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH,
				"wire_version": restart.WireVersion,
			})
		}
		fmt.Fprintf(a.stdout, "mandrill %s, %s, %s/%s, wire version %s\n",
			v, runtime.Version(), runtime.GOOS, runtime.GOARCH, restart.WireVersion)
		return nil
	}
	return cmd
}
