package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/conf"
	"github.com/nats-io/nkeys"

	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
)

// A signer makes tokens that say what the accounts of the example say.
type signer struct {
	operator nkeys.KeyPair
	accounts map[string]nkeys.KeyPair
}

// exampleAccounts returns accounts.conf as the server reads it, with a name for each role in the place of its key.
func exampleAccounts(t *testing.T) map[string]any {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(filepath.Dir(exampleConfig), "accounts.conf"))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := conf.Parse(strings.ReplaceAll(string(text), "nkey: $", "nkey: "))
	if err != nil {
		t.Fatal(err)
	}
	return parsed["accounts"].(map[string]any)
}

func publicKey(t *testing.T, pair nkeys.KeyPair) string {
	t.Helper()
	key, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newPair(t *testing.T, prefix nkeys.PrefixByte) nkeys.KeyPair {
	t.Helper()
	pair, err := nkeys.CreatePair(prefix)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// account returns the token of an account.
func (s *signer) account(t *testing.T, name string, says map[string]any) string {
	t.Helper()
	claims := jwt.NewAccountClaims(publicKey(t, s.accounts[name]))
	claims.Name = name
	if _, ok := says["jetstream"]; ok {
		claims.Limits.JetStreamLimits = jwt.JetStreamLimits{
			DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit, MaxAckPending: jwt.NoLimit,
		}
	}
	exports, _ := says["exports"].([]any)
	for _, each := range exports {
		e := each.(map[string]any)
		export := &jwt.Export{Type: jwt.Service}
		subject, ok := e["service"].(string)
		if !ok {
			subject, export.Type = e["stream"].(string), jwt.Stream
		}
		export.Name, export.Subject = subject, jwt.Subject(subject)
		if e["response"] == "stream" {
			export.ResponseType = jwt.ResponseTypeStream
		}
		claims.Exports.Add(export)
	}
	imports, _ := says["imports"].([]any)
	for _, each := range imports {
		for kind, from := range each.(map[string]any) {
			m := from.(map[string]any)
			subject := m["subject"].(string)
			imported := &jwt.Import{
				Name: subject, Subject: jwt.Subject(subject), Type: jwt.Service,
				Account: publicKey(t, s.accounts[m["account"].(string)]),
			}
			if kind == "stream" {
				imported.Type = jwt.Stream
			}
			claims.Imports.Add(imported)
		}
	}
	// A server says no more of a token that it does not take than that it does not.
	results := jwt.CreateValidationResults()
	claims.Validate(results)
	if results.IsBlocking(true) {
		t.Fatalf("account %s: %v", name, results.Errors())
	}
	token, err := claims.Encode(s.operator)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// credentials returns the file of a user.
func (s *signer) credentials(t *testing.T, account string, permissions map[string]any) (file string) {
	t.Helper()
	pair := newPair(t, nkeys.PrefixByteUser)
	claims := jwt.NewUserClaims(publicKey(t, pair))
	for _, subject := range permissions["publish"].(map[string]any)["allow"].([]any) {
		claims.Pub.Allow.Add(subject.(string))
	}
	for _, subject := range permissions["subscribe"].(map[string]any)["allow"].([]any) {
		claims.Sub.Allow.Add(subject.(string))
	}
	token, err := claims.Encode(s.accounts[account])
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.FormatUserConfig(token, seed)
	if err != nil {
		t.Fatal(err)
	}
	return mustWrite(t, "user.creds", text)
}

func mustWrite(t *testing.T, name string, data []byte) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// newOperatorScene runs a server in operator mode, and returns the credentials of each role.
func newOperatorScene(t *testing.T) (s *secured, credentials map[role]string) {
	t.Helper()
	s = &secured{scene: newHosts(t, simulated.Config{}), config: t.TempDir()}
	accounts := exampleAccounts(t)
	by := &signer{operator: newPair(t, nkeys.PrefixByteOperator), accounts: map[string]nkeys.KeyPair{}}
	for name := range accounts {
		by.accounts[name] = newPair(t, nkeys.PrefixByteAccount)
	}
	by.accounts["SYS"] = newPair(t, nkeys.PrefixByteAccount)
	accounts["SYS"] = map[string]any{}
	operator := jwt.NewOperatorClaims(publicKey(t, by.operator))
	operator.SystemAccount = publicKey(t, by.accounts["SYS"])
	token, err := operator.Encode(by.operator)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	credentials = map[role]string{}
	for name, each := range accounts {
		says := each.(map[string]any)
		file := filepath.Join(dir, publicKey(t, by.accounts[name])+".jwt")
		if err := os.WriteFile(file, []byte(by.account(t, name, says)), 0o600); err != nil {
			t.Fatal(err)
		}
		users, _ := says["users"].([]any)
		for _, user := range users {
			u := user.(map[string]any)
			credentials[role(u["nkey"].(string))] = by.credentials(t, name, u["permissions"].(map[string]any))
		}
	}
	cert, key := certificate(t, "nats")
	s.ca = cert
	s.server = run(t, "nats", []string{
		"MANDRILL_NATS_NAME=nats-1", "MANDRILL_NATS_LISTEN=" + freeAddress(t), "MANDRILL_NATS_STORE=" + t.TempDir(),
		"MANDRILL_NATS_CERT=" + cert, "MANDRILL_NATS_KEY=" + key, "MANDRILL_NATS_ACCOUNTS=" + dir,
		"MANDRILL_NATS_OPERATOR=" + mustWrite(t, "operator.jwt", []byte(token)), "MANDRILL_NATS_SYSTEM=" + operator.SystemAccount,
	}, "", natsServer, filepath.Join(filepath.Dir(exampleConfig), "operator.conf"))
	s.server.await(t, "URL", func() bool { return strings.HasSuffix(s.server.stdout.String(), "\n") })
	s.url = strings.TrimSpace(s.server.stdout.String())
	return s, credentials
}

// The same roles as signed tokens: each client brings a credentials file, and trusts the server by its authority.
func TestProcess_RolesWorkInOperatorModeWithCredentials(t *testing.T) {
	t.Parallel()
	s, credentials := newOperatorScene(t)
	as := func(r role, args ...string) *process {
		t.Helper()
		return run(t, string(r)+" "+args[0], []string{"HOME=" + s.config, fleetVariable + "=" + s.hosts.URL}, "",
			append(args, "--nats", s.url, "--creds", credentials[r], "--tls-ca", s.ca)...)
	}
	w := as(roleWorker, "worker", "--group", "web", "--data", s.workerData, "--database", s.database)
	w.awaitLine(t, "worker is ready", says("worker is ready"))
	for _, tt := range []struct {
		role role
		args []string
	}{
		{rolePublisher, []string{"publish", "one", "--group", "web", "--wait"}},
		{roleViewer, []string{"explain", "one", "--group", "web"}},
		{roleViewer, []string{"status"}},
		{roleOperator, []string{"pause", "web"}},
		{roleOperator, []string{"resume", "web"}},
	} {
		p := as(tt.role, tt.args...)
		p.wantExit(t, exitDone)
		wantPermitted(t, p)
	}
	denied := as(roleViewer, "pause", "web")
	denied.wantExit(t, exitFailed)
	wantText(t, denied, "$KV.mandrill-control.pause.web.manual")
	if n := s.fleet.BootsOf(hostOf("one")); n != 1 {
		t.Errorf("got %d boots, want 1", n)
	}
	w.stop(t)
	wantPermitted(t, w)
}
