//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package natsd

// lock does nothing where there is no flock: keeping two servers off one folder is then up to the operator.
func lock(string) (unlock func(), err error) { return func() {}, nil }
