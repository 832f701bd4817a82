package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manCommand is for those who make packages.
func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "man FOLDER",
		Short:   "Write the man pages, one for each verb, into a folder",
		Example: "  mandrill man /usr/local/share/man/man1",
		Hidden:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("man: name one folder")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("cannot make the folder of the man pages: %w", err)
			}
			for name, page := range manPages(cmd.Root()) {
				if err := os.WriteFile(filepath.Join(args[0], name), []byte(page), 0o644); err != nil {
					return fmt.Errorf("cannot write a man page: %w", err)
				}
			}
			return nil
		},
	}
}

// manPages returns a page for each verb that people use, by file name. They bear no date, so that each build has the same.
func manPages(root *cobra.Command) map[string]string {
	pages := map[string]string{}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		pages[manName(cmd)+".1"] = manPage(cmd)
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
	return pages
}

func manName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// roff hides what the formatter would take for its own. A line that begins with a dot or quote is a request to it.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "\n.", "\n\\&.", "\n'", "\n\\&'").Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}

func manPage(cmd *cobra.Command) string {
	var p strings.Builder
	fmt.Fprintf(&p, ".TH %q 1 \"\" %q \"Mandrill\"\n", strings.ToUpper(manName(cmd)), "mandrill "+roff(ourVersion()))
	fmt.Fprintf(&p, ".SH NAME\n%s \\- %s\n", roff(manName(cmd)), roff(cmd.Short))
	fmt.Fprintf(&p, ".SH SYNOPSIS\n.B %s\n", roff(cmd.UseLine()))
	p.WriteString(".SH DESCRIPTION\n")
	for i, paragraph := range strings.Split(cmp.Or(cmd.Long, cmd.Short+"."), "\n\n") {
		if i > 0 {
			p.WriteString(".PP\n")
		}
		p.WriteString(roff(paragraph) + "\n")
	}
	manFlags(&p, "OPTIONS", cmd.NonInheritedFlags())
	manFlags(&p, "OPTIONS OF EVERY VERB", cmd.InheritedFlags())
	if cmd.Example != "" {
		fmt.Fprintf(&p, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(cmd.Example))
	}
	p.WriteString(".SH EXIT STATUS\n0 done; 1 failed; 2 wrong use or configuration; 3 partly done; 130 ended by a second signal.\n")
	manSeeAlso(&p, cmd)
	return p.String()
}

func manFlags(p *strings.Builder, title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(p, ".SH %s\n", title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		kind, usage := pflag.UnquoteUsage(f)
		if kind != "" {
			kind = " \\fI" + roff(kind) + "\\fR"
		}
		fmt.Fprintf(p, ".TP\n\\fB%s\\fR%s\n%s\n", roff(name), kind, roff(usage))
	})
}

func manSeeAlso(p *strings.Builder, cmd *cobra.Command) {
	var others []string
	if cmd.HasParent() {
		others = append(others, manName(cmd.Parent()))
	}
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			others = append(others, manName(sub))
		}
	}
	if len(others) == 0 {
		return
	}
	p.WriteString(".SH SEE ALSO\n")
	for i, other := range others {
		between := ","
		if i == len(others)-1 {
			between = ""
		}
		fmt.Fprintf(p, ".BR %s (1)%s\n", roff(other), between)
	}
}
