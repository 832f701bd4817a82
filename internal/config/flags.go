package config

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// AddFlags adds the flags of the settings with these keys; with no keys, of all. An unknown key panics, as does
// pflag for a name that is there already: both are slips in the program, not of its user.
func AddFlags(fs *pflag.FlagSet, keys ...string) {
	if len(keys) == 0 {
		for _, s := range table {
			keys = append(keys, s.key)
		}
	}
	for _, key := range keys {
		s := lookup(key)
		if s == nil {
			panic(fmt.Sprintf("config: no setting %q", key))
		}
		f := fs.VarPF(&flagValue{setting: s}, s.flag(), "", s.usage())
		if s.kind == kindBool {
			f.NoOptDefVal = "true"
		}
	}
}

// ChangedFlags returns the texts of the flags of AddFlags that were set, by key, for Sources.
func ChangedFlags(fs *pflag.FlagSet) map[string][]string {
	changed := map[string][]string{}
	fs.Visit(func(f *pflag.Flag) {
		if v, ok := f.Value.(*flagValue); ok {
			changed[v.setting.key] = v.texts
		}
	})
	return changed
}

// usage returns the setting's line for --help. pflag would take what is in back quotes for the value's name.
func (s *setting) usage() string {
	line := strings.ReplaceAll(s.doc, "`", "")
	if s.bounds != "" {
		line += " (" + s.bounds + ")"
	}
	return line
}

// A flagValue keeps the text; Load checks it, so that its problems are reported with all others, and because pflag
// would quote a secret in its error.
type flagValue struct {
	setting *setting
	texts   []string
}

var _ pflag.Value = (*flagValue)(nil)

// Set implements pflag.Value: a list grows, of anything else the last one counts.
func (v *flagValue) Set(text string) error {
	if !v.setting.list() {
		v.texts = nil
	}
	v.texts = append(v.texts, text)
	return nil
}

// String implements pflag.Value. It is what --help shows as the default.
func (v *flagValue) String() string {
	switch {
	case v.setting == nil: // pflag makes zero values to compare with.
		return ""
	case v.texts == nil:
		return v.setting.defaultText("")
	case v.setting.hidden:
		return mask
	}
	return strings.Join(v.texts, ",")
}

// Type implements pflag.Value.
func (v *flagValue) Type() string { return v.setting.kind }
